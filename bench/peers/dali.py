"""NVIDIA's DALI, on the CPU only: each image is decoded once, then DALI's own ops run, one sample per thread.

DALI's color jitter is one linear map of a pixel: hue and saturation in YIQ, contrast around mid-gray, in a fixed order.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from twoview.bench.peers.job import Job
from twoview.loaders.beton import JPEG, open_beton
from twoview.loaders.views import View, ops_of


class DALI:
    """Contestant that loads with a DALI pipeline."""

    note = "DALI's own linear color jitter"

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self) -> None:
        job, views = self.job, self.job.view_tuple()
        if any(view.scale is None or ops_of(view).keys() - {"jitter", "gray", "blur"} for view in views):
            raise ValueError("the dali peer makes random crops, flips, jitter, gray and blur only")
        settings = {"batch_size": job.batch, "num_threads": job.threads, "device_id": None, "seed": 0}
        self.pipeline = pipeline(Source(job), views, **settings)
        self.pipeline.build()

    def one_pass(self) -> Iterator[object]:
        for _ in range(self.job.images // self.job.batch):
            yield [output.as_tensor() for output in self.pipeline.run()]
        self.pipeline.reset()


class Source:
    """Batches of a beton file's bytes and their labels; each iteration takes the samples in a new random order."""

    def __init__(self, job: Job) -> None:
        self.job, self.beton, self.random = job, open_beton(job.beton), np.random.default_rng(0)
        self.jpeg = bool((self.beton.modes[job.indices()] == JPEG).all())

    def __iter__(self) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        order = self.random.permutation(self.job.indices())
        for at in range(0, len(order) - self.job.batch + 1, self.job.batch):
            samples = order[at : at + self.job.batch]
            yield [self.image(i) for i in samples], self.beton.labels[samples, None]

    def image(self, index: int) -> np.ndarray:
        """Return uint8: the bytes of a JPEG, (bytes,), or the pixels of a raw image, (height, width, 3)."""
        beton = self.beton
        content = beton.file[beton.pointers[index] : beton.pointers[index] + beton.sizes[index]]
        return content if self.jpeg else content.reshape(beton.heights[index], beton.widths[index], 3)


@pipeline_def(enable_conditionals=True)
def pipeline(source: Source, views: Sequence[View]) -> Any:
    """Return the DALI pipeline, not yet built, that makes the views of each batch.

    Its outputs are one uint8 (B, size, size, 3) per view, then the labels. Keyword arguments such as batch_size go to
    DALI's Pipeline. Conditionals are enabled: an `if` on a random number is decided separately for each sample.
    """
    content, labels = fn.external_source(
        source, num_outputs=2, cycle="raise", layout=["" if source.jpeg else "HWC", ""]
    )
    images = fn.decoders.image(content, output_type=types.RGB) if source.jpeg else content
    return *(made(images, view) for view in views), labels


def made(images: Any, view: View) -> Any:
    """Return the view of each image, made by DALI's ops."""
    x = fn.random_resized_crop(
        images,
        size=view.size,
        random_area=view.scale,
        random_aspect_ratio=view.ratio,
        interp_type=types.INTERP_CUBIC if view.interpolation == "bicubic" else types.INTERP_LINEAR,
        antialias=True,
    )
    x = fn.flip(x, horizontal=fn.random.coin_flip(probability=view.flip))
    if view.jitter and chance(view.jitter.p):
        factors = [fn.random.uniform(range=(max(0.0, 1 - strength), 1 + strength)) for strength in view.jitter[:3]]
        brightness, contrast, saturation = factors
        # A view's hue strength is a share of the color circle; DALI takes degrees.
        degrees = fn.random.uniform(range=(-360 * view.jitter.hue, 360 * view.jitter.hue))
        x = fn.color_twist(x, brightness=brightness, contrast=contrast, saturation=saturation, hue=degrees)
    if view.gray and chance(view.gray):
        x = fn.saturation(x, saturation=0.0)
    if view.blur and chance(view.blur.p):
        sigma = fn.random.uniform(range=(view.blur.sigma_min, view.blur.sigma_max))
        x = fn.gaussian_blur(x, window_size=view.blur.kernel, sigma=sigma)
    return x


def chance(probability: float) -> Any:
    """Return a random boolean per sample, true with this probability."""
    return fn.random.coin_flip(probability=probability, dtype=types.BOOL)
