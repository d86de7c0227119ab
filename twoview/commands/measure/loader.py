"""The command `measure loader`: the loader's throughput, and where its time goes."""

from dataclasses import asdict
from pathlib import Path

from tyro.conf import Positional

from twoview.bench.dataloader import profile as loader_profile
from twoview.bench.dataloader import rates as loader_rates
from twoview.bench.runtime.cores import cpu_count
from twoview.commands.numbers import at_least, at_most
from twoview.commands.output import show
from twoview.loaders import beton, presets
from twoview.loaders.limits import BATCH, PIXELS, SAMPLES, THREADS


def run(
    file: Positional[Path],
    views: str = "simclr-imagenet",
    size: int | None = None,
    threads: int = 0,
    images: int = loader_rates.IMAGES,
    batch: int = loader_rates.BATCH,
    rounds: int = 5,
    peers: tuple[str, ...] = (),
    empty_cache: bool = False,
    profile: bool = False,
    json: bool = False,
) -> None:
    """Measure the loader on a .beton file: source images/s and views/s, medians over the rounds.

    A view is one augmented crop of an image. `twoview suite loader` measures everything that the loader must reach.

    Args:
        file: a .beton file.
        views: a name from `twoview list views`.
        size: side of a view in pixels; by default 224, or 32 if no image is taller than 64.
        threads: number of threads of each loader; 0 means one per core.
        images: number of images in one pass; a smaller file is read several times.
        batch: number of images in a batch; at most the images of one pass.
        rounds: number of rounds; in each, every loader runs once, repeating its pass until a second has gone by.
        peers: other loaders to measure on the same work: torchvision, lightly, kornia, spdl, dali, ffcv, and decode
            (libjpeg-turbo alone).
        empty_cache: also measure the time to the first batch when every kernel must be compiled.
        profile: show where one thread's time goes instead: decode, crop, each op, handover.
        json: print the result as JSON.
    """
    at_least(0, threads=threads)
    at_least(1, size=size, images=images, batch=batch, rounds=rounds)
    at_most(THREADS, threads=threads)
    at_most(SAMPLES, images=images)
    at_most(BATCH, batch=batch)
    PIXELS.check((size or 1) ** 2, "a square of --size")
    presets.preset(views, 224)  # an unknown name is an error before a file is opened and processes are started
    opened = beton.open_beton(file)
    side = size or (32 if opened.heights.max() <= 64 else 224)
    if profile:
        steps = loader_profile.profile(opened, presets.preset(views, side), min(images, len(opened)), batch, rounds)
        return show([asdict(step) for step in steps], json, loader_profile.text(steps))
    job = loader_rates.job_for(file, views, side, threads or cpu_count(), len(opened), images, batch)
    result = loader_rates.as_result(loader_rates.measure(job, peers, rounds, file.stem, empty_cache))
    show(result, json, loader_rates.text(result))
