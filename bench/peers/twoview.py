"""twoview's own contestants: its loader, its conversion and its training step."""

from collections.abc import Iterator

import numba  # noqa: F401 (imported before the clock starts, like torch)
import torch

from twoview.bench.peers.job import ConvertJob, Job, StepJob


class Twoview:
    """Contestant that loads with twoview's loader."""

    note = ""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.epoch = 0

    def make(self) -> None:
        # Imported here, so that the time to import and compile our own modules counts as part of the first batch.
        from twoview.loaders.beton import open_beton
        from twoview.loaders.loader import Loader

        job = self.job
        beton = open_beton(job.beton)
        self.loader = Loader(beton, job.view_tuple(), job.batch, indices=job.indices(), threads=job.threads)

    def one_pass(self) -> Iterator[object]:
        yield from self.loader.epoch(self.epoch)
        self.epoch += 1


class Writer:
    """Contestant that writes a beton file like `twoview convert`, which keeps the bytes of JPEG files."""

    note = ""

    def __init__(self, job: ConvertJob) -> None:
        self.job = job

    def make(self) -> None:
        from twoview.loaders import beton, datasets

        self.beton, self.find = beton, datasets.image_folder

    def one_pass(self) -> Iterator[object]:
        samples = self.find(self.job.folder)
        path = self.job.folder.with_suffix(".twoview")
        yield from self.beton.write(path, len(samples), samples.stored, self.job.threads)


class Step:
    """Contestant that does the trainer's step."""

    def __init__(self, job: StepJob) -> None:
        self.job = job
        self.note = f"channels-last, byte views; torch.compile: {job.recipe['compile']}"

    def make(self) -> None:

        from twoview.bench.config import experiment
        from twoview.bench.config.recipe import parse
        from twoview.bench.training.steps import resident_batch
        from twoview.methods import determinism

        job = self.job
        one = parse(job.recipe, "the job")
        determinism.set_deterministic(one.deterministic)
        self.trainer = experiment.trainer(one, torch.device(job.device))
        self.steps = job.images // one.batch
        self.batch = resident_batch(one, self.trainer)

    def one_pass(self) -> Iterator[object]:
        for _ in range(self.steps):
            out = self.trainer.step(self.batch, self.trainer.epochs)
        yield out["loss"].item()  # waits for the device
