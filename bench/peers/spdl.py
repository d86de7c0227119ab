"""SPDL: PIL decoding and torchvision's transforms, as it has none of its own, in the threads of its pipeline."""

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
    """Contestant that loads with an SPDL pipeline."""

    note = "torchvision's ops in SPDL's threads"

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self) -> None:
        job = self.job
        torch.set_num_threads(1)  # for each op, since the pipeline has threads of its own
        self.data = Views(open_beton(job.beton), job.indices(), [transform(view) for view in job.view_tuple()])
        self.random = np.random.default_rng(0)

    def one_pass(self) -> Iterator[object]:
        job = self.job
        builder: Any = PipelineBuilder()  # its type hints do not follow the pipeline from op to op
        builder.add_source(self.random.permutation(job.images).tolist())
        builder.pipe(self.data.__getitem__, concurrency=job.threads)
        builder.aggregate(job.batch, drop_last=True).pipe(default_collate).add_sink()
        pipeline = builder.build(num_threads=job.threads + 1)  # one more thread for collating
        with pipeline.auto_stop():
            yield from pipeline
