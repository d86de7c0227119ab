"""SPDL: PIL decoding and torchvision's transforms, which it has none of, in the threads of its pipeline."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from spdl.pipeline import PipelineBuilder
from torch.utils.data import default_collate

from twoview.bench.peers.job import Job
from twoview.bench.peers.torchvision import Views, transform
from twoview.loaders.beton import open_beton


class SPDL:
    note = "torchvision's ops in its threads"

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self) -> None:
        job = self.job
        torch.set_num_threads(1)  # in each of its threads
        self.data = Views(open_beton(job.beton), job.indices(), [transform(view) for view in job.view_tuple()])
        self.random = np.random.default_rng(0)

    def one_pass(self) -> Iterator[object]:
        job = self.job
        builder: Any = PipelineBuilder()  # its types do not follow an operation
        builder.add_source(self.random.permutation(job.images).tolist())
        builder.pipe(self.data.__getitem__, concurrency=job.threads)
        builder.aggregate(job.batch, drop_last=True).pipe(default_collate).add_sink()
        pipeline = builder.build(num_threads=job.threads + 1)  # one more for the collating
        with pipeline.auto_stop():
            yield from pipeline
