"""Ours."""

from bench.peers.job import Job
from loaders.beton import open_beton
from loaders.loader import Loader
from loaders.samplers import sequential


class Twoview:
    note = ""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.epoch = 0

    def first_batch(self) -> None:
        job = self.job
        self.loader = Loader(
            open_beton(job.beton), job.view_tuple(), job.batch, indices=sequential(job.images), threads=job.threads
        )
        next(self.loader.epoch(0))

    def one_pass(self) -> None:
        self.epoch += 1
        for _ in self.loader.epoch(self.epoch):
            pass
