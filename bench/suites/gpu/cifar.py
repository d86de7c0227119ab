"""CIFAR-10 on one GPU: seconds per epoch, and the time until kNN accuracies are reached.

Images are kept on the GPU, and their views are made there.
"""

import math
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from twoview.bench.config import experiment
from twoview.bench.config.recipe import Recipe
from twoview.bench.data import betons
from twoview.bench.data.conversion import convert
from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.suites.gpu.scale import CIFAR, Context, Skipped
from twoview.bench.training.steps import now, peaks
from twoview.loaders import beton, datasets, presets
from twoview.loaders.datasets.samples import samples_from_arrays
from twoview.loaders.loader import Loader
from twoview.methods.precision import autocast
from twoview.methods.probes.knn import knn_top1
from twoview.methods.trainer import LoaderLike, Trainer

EPOCH, TIME = "gpu-cifar10-epoch", "gpu-cifar10-time"
SIDE = 32  # side of CIFAR-10's images, in pixels
CHUNK = 2000  # images that are encoded at once
BATCHES = 50  # number of batches over which making the views is timed alone
PUBLISHED_K = 10  # neighbors of the published kNN, see `Judgment`
PILOT = 2  # epochs that are timed before the others are planned; the first one also compiles
LATELY = 8  # latest finished epochs, whose median predicts the next ones
RESERVE = 10  # seconds kept for the last kNN evaluation and the record
SLACK = 1.05  # factor on the timed seconds when the remaining epochs are predicted


def clock_epochs(context: Context) -> Iterator[DeviceFigures]:
    """Measure the seconds of whole epochs in the trainer's own loop; the first, which compiles, is recorded separately.

    The images are noise, in the same number as CIFAR-10's, because the time of an epoch does not depend on their
    content.
    """
    scale = context.scale
    whole = {"start": 0}  # no progressive resizing: every epoch has the recipe's size
    one = scale.recipe(CIFAR, compile=scale.compile, epochs=1 + scale.clocked_epochs, resident="on", progressive=whole)
    file = noise(context.place.betons, one.train_images or datasets.dataset(one.dataset).sizes["train"] or 0)
    work = f"SimCLR, {one.backbone.name} at {one.size}, batch {one.batch}, {len(file):,} noise images"
    trainer = scale.trainer(one)
    with experiment.train_loader(one, file, trainer.method, trainer.device) as loader:
        memory = PeakMemory()
        empty = DeviceFigures(name=EPOCH, device=scale.device, figures=[], recipe=one.model_dump(mode="json"))
        for epoch in range(one.epochs):
            trainer.fit(loader, None, {}, until=epoch + 1)
            seconds, waited = trainer.history.epoch_seconds, trainer.history.wait_seconds
            waits = [100 * wait / whole for wait, whole in zip(waited, seconds, strict=True)]
            record = empty.plus(
                Figure(work=work, quantity="epoch_time", samples=seconds[1:]),
                Figure(work=work, quantity="first_epoch_time", samples=seconds[:1]),
                Figure(work=work, quantity="data_wait", samples=waits[1:]),
                *peaks(memory, work),
            )
            yield record
        views = _view_ms(loader, trainer, 3)
        yield record.plus(Figure(work=work, quantity="augmentation_time", samples=views))


def _view_ms(loader: LoaderLike, trainer: Trainer, rounds: int) -> list[float]:
    """Return the milliseconds in which the device makes the views of a batch while nothing trains, one per round."""
    samples = []
    for epoch in range(rounds):
        start = now(trainer.device)
        count = sum(1 for _ in islice(loader.epoch(epoch), BATCHES))
        samples.append(1000 * (now(trainer.device) - start) / count)
    return samples


def noise(folder: Path, count: int) -> beton.Beton:
    """Return a beton file (FFCV's format) of random images of CIFAR-10's size, which is made if it does not exist."""
    path = folder / f"noise-{count}.beton"
    if not path.exists():
        images = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        samples = samples_from_arrays(images, np.arange(count) % 10, "noise")
        convert(samples, path, "noise images", cpu_count())
    return beton.open_beton(path)


def train(context: Context) -> Iterator[DeviceFigures]:
    """Train once, with kNN evaluations during training. Their time does not count; the time to compile does.

    The number of epochs is what the step's time allows, at most the recipe's. Two epochs, which belong to the warm-up,
    are timed first. Then the schedule is planned for the epochs that fit, and its end is planned again after every kNN
    evaluation, because the pace changes. If the time is over before the last epoch, the record has the evaluations made
    so far. Nothing is downloaded; Skipped is raised if the data are missing.
    """
    scale = context.scale
    one = scale.recipe(CIFAR, compile=scale.compile, resident="on")
    wanted = one.epochs
    train_file, test_file = (_file(context, one, split) for split in ("train", "test"))
    trainer, memory = scale.trainer(one), PeakMemory()
    judge = Judge(one, train_file, test_file, trainer)

    def over() -> bool:
        return _left(context) <= 0

    def left() -> float:
        return _left(context) - judge.seconds * len(scale.judged_at)

    loader = experiment.train_loader(one, train_file, trainer.method, trainer.device)
    try:
        if not trainer.fit(loader, None, {}, until=PILOT, stop=over):
            raise Skipped(f"its time is too short for {PILOT} epochs, and more are needed")
        judge()
        judge()  # again, for a duration without one-time costs
        one = fitted(one, trainer.history.epoch_seconds, left())
        trainer.epochs, trainer.settings = one.epochs, one.optim
        if one.progressive.start:  # the epochs at which the views grow have changed
            loader.close()
            loader = experiment.train_loader(one, train_file, trainer.method, trainer.device)
        yield _record(context, one, wanted, trainer, judge, memory)
        for share in scale.judged_at:
            until = judged_epoch(one.epochs, share)
            if until <= trainer.finished_epochs:
                continue
            if not trainer.fit(loader, None, {}, until=until, stop=over):
                break  # stopped within an epoch, so that epoch was not timed
            judge()
            if trainer.finished_epochs < one.epochs:
                one = refitted(one, wanted, trainer.history.epoch_seconds, left())
                trainer.epochs = one.epochs
            yield _record(context, one, wanted, trainer, judge, memory)
    finally:
        loader.close()


def _left(context: Context) -> float:
    """Return the seconds left for training."""
    return context.ends - RESERVE - time.monotonic()


def fitted(one: Recipe[Any], timed: Sequence[float], left: float) -> Recipe[Any]:
    """Return the recipe with the epochs that fit: the PILOT timed ones, and those that fit into the seconds left.

    timed: seconds of the timed epochs. The result has at most the recipe's epochs, and at least one more than were
    timed. Warm-up takes at most a fifth of them. Progressive resizing happens at the same shares of the epochs.
    """
    possible = range(PILOT + 1, one.epochs + 1)
    return _laid_out(one, _longest(possible, left, lambda epochs: _seconds(_laid_out(one, epochs), timed)))


def refitted(one: Recipe[Any], most: int, timed: Sequence[float], left: float) -> Recipe[Any]:
    """Return the recipe with the number of epochs that the seconds left allow, at most `most`.

    timed: seconds of all finished epochs. The epochs at which the views grow do not change.
    """

    def ending(epochs: int) -> Recipe[Any]:
        return one.model_copy(update={"epochs": epochs})

    possible = range(len(timed) + 1, most + 1)
    return ending(_longest(possible, left, lambda epochs: _seconds(ending(epochs), timed)))


def _longest(possible: range, left: float, seconds: Callable[[int], float]) -> int:
    """Return the largest possible number of epochs that fits into the seconds left, or the smallest if none does."""
    fitting = bisect_right(possible, left, key=seconds)
    return possible[max(fitting - 1, 0)]


def _seconds(one: Recipe[Any], timed: Sequence[float]) -> float:
    """Return the predicted seconds of the epochs after the timed ones.

    An epoch takes the seconds of the latest timed ones, in proportion to the pixels of its views. The first epoch of
    each new size also compiles, for as long as the first of all did.
    """
    done, compiling = len(timed), max(timed[0] - min(timed), 0.0)
    sides = [one.progressive.side(one.size, epoch) for epoch in range(one.epochs)]
    # Seconds of timed epochs at the latest size, without the first epoch, which compiled.
    lately = [second for second, side in zip(timed[1:], sides[1:done], strict=True) if side == sides[done - 1]]
    pixels = sum((side / sides[done - 1]) ** 2 for side in sides[done:])
    return SLACK * statistics.median(lately[-LATELY:]) * pixels + compiling * len(set(sides) - set(sides[:done]))


def _laid_out(one: Recipe[Any], epochs: int) -> Recipe[Any]:
    """Return the recipe with this number of epochs, and with its warm-up and progressive resizing fitted to them."""
    grow, share = one.progressive, epochs / one.epochs
    if grow.start:
        first = max(PILOT, round(grow.first_epoch * share))
        last = max(first + 1, round(grow.last_epoch * share))
        grow = grow.model_copy(update={"first_epoch": first, "last_epoch": last})
    warmup = min(one.optim.warmup_epochs, max(PILOT, epochs / 5))
    optim = one.optim.model_copy(update={"warmup_epochs": warmup})
    return one.model_copy(update={"epochs": epochs, "progressive": grow, "optim": optim})


def judged_epoch(epochs: int, share: float) -> int:
    """Return the epoch after which kNN is measured: at this share of all epochs, but after the timed ones."""
    return max(PILOT + 1, math.ceil(share * epochs))


class Judgment(NamedTuple):
    """kNN accuracies, in percent.

    published: as in github.com/dkobak/simclr-cifar10, where 10 neighbors have equal weight. weighted: by the recipe's
    probe.
    """

    published: float
    weighted: float


class Judge:
    """Measures kNN accuracies of the encoder in its current state, on images that are kept on the device.

    found: the accuracies by number of finished epochs. seconds: duration of the latest measurement.
    """

    def __init__(self, one: Recipe[Any], train: beton.Beton, test: beton.Beton, trainer: Trainer) -> None:
        self.probe, self.trainer = one.probe, trainer
        self.bank = _labeled(train, one, one.probe.train_images, trainer.device)
        self.queries = _labeled(test, one, one.probe.test_images, trainer.device)
        self.found: dict[int, Judgment] = {}
        self.seconds = 0.0

    def __call__(self) -> None:
        start = time.perf_counter()
        self.trainer.method.eval()
        bank, query = self._features(self.bank.images), self._features(self.queries.images)

        def top1(k: int, temperature: float) -> float:
            labels = self.bank.labels, self.queries.labels
            return knn_top1(bank, labels[0], query, labels[1], k=k, temperature=temperature, device=bank.device)

        self.found[self.trainer.finished_epochs] = Judgment(
            published=top1(PUBLISHED_K, math.inf),  # at an infinite temperature all neighbors have equal weight
            weighted=top1(self.probe.k, self.probe.temperature),
        )
        self.seconds = time.perf_counter() - start

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """Return the features (N, D) of images, computed in the precision of training."""
        trainer = self.trainer
        with autocast(trainer.device, trainer.precision):
            return torch.cat([trainer.method.encode(trainer.normalize(chunk)) for chunk in torch.split(images, CHUNK)])


class Labeled(NamedTuple):
    """images: uint8 (N, 3, size, size), as the probes see them. labels: int64 (N,). Both are on the device."""

    images: Tensor
    labels: Tensor


def _labeled(file: beton.Beton, one: Recipe[Any], count: int, device: torch.device) -> Labeled:
    """Load `count` images of the file and their labels onto the device."""
    used, views = experiment.chosen(file.labels, 0, count), presets.preset("eval", one.size)
    options: dict[str, Any] = {"shuffle": False, "drop_last": False, "threads": cpu_count()}
    with Loader(file, views, CHUNK, indices=used, **options) as loader:
        batches = [(batch.views[0].to(device), batch.label.to(device)) for batch in loader.epoch(0)]
    images, labels = zip(*batches, strict=True)
    return Labeled(torch.cat(images), torch.cat(labels))


def _record(
    context: Context, one: Recipe[Any], wanted: int, trainer: Trainer, judge: Judge, memory: PeakMemory
) -> DeviceFigures:
    """Return the record of training so far. wanted: epochs of the recipe; `one` has the epochs that fit."""
    found, done = judge.found, trainer.finished_epochs
    seconds = list(accumulate(trainer.history.epoch_seconds))
    work = f"SimCLR, {one.backbone.name} at {one.size}, batch {one.batch}, {one.dataset}, {one.epochs} epochs"
    best = max(judged.published for judged in found.values())
    cut = "" if one.epochs == wanted else f"; the step's time allows {one.epochs} of the recipe's {wanted} epochs"
    cut += "" if done == one.epochs else f"; {done} of {one.epochs} epochs are trained"
    figures = []
    for goal in context.scale.goals:
        # Minutes of training until the kNN evaluations that reach the goal, the first of which counts.
        reached = [(0.0, *seconds)[epoch] / 60 for epoch, judged in found.items() if judged.published >= goal]
        note = "" if reached else f"not reached: the best is {best:.2f} %{cut}"
        figures.append(
            Figure(work=work, quantity="time_to_accuracy", variant=f"{goal:g}", samples=reached[:1], note=note)
        )
    published, weighted = ([getattr(judged, kind) for judged in found.values()] for kind in Judgment._fields)
    kinds = f"k = {PUBLISHED_K}, unweighted", f"k = {one.probe.k}, weighted"
    figures += [
        Figure(work=work, quantity="best_knn_accuracy", samples=[best], note=f"{kinds[0]}{cut}"),
        Figure(work=work, quantity="best_weighted_knn_accuracy", samples=[max(weighted)], note=f"{kinds[1]}{cut}"),
        Figure(work=work, quantity="knn_accuracy", samples=published, note=kinds[0]),
        Figure(work=work, quantity="weighted_knn_accuracy", samples=weighted, note=kinds[1]),
        Figure(work=work, quantity="judged_epochs", samples=[*map(float, found)]),
        Figure(work=work, quantity="elapsed_time", samples=seconds),
        Figure(work=work, quantity="knn_time", samples=[judge.seconds]),
        *peaks(memory, work),
    ]
    return DeviceFigures(name=TIME, device=context.scale.device, figures=figures, recipe=one.model_dump(mode="json"))


def _file(context: Context, one: Recipe[Any], split: datasets.Split) -> beton.Beton:
    """Return the beton file of a split. Raises Skipped, naming what is missing, if the data do not exist."""
    place = context.place
    try:
        return betons.dataset_beton(datasets.dataset(one.dataset), split, place.betons, place.root, download=False)
    except FileNotFoundError as missing:
        raise Skipped(str(missing)) from None
