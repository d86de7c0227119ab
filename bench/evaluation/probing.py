"""An encoder and a dataset -> what each probe says of the one on the other."""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from twoview.bench.config.differences import check_same
from twoview.bench.config.experiment import Place, best_device, chosen, take_up
from twoview.bench.config.recipe import Budget, Probe, in_a_file_name
from twoview.bench.data import betons
from twoview.bench.evaluation.encoders import Published
from twoview.bench.evidence import LeftOut, Probed
from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.runtime.cores import cpu_count
from twoview.bench.runtime.locks import alone
from twoview.bench.runtime.progress import console, progress
from twoview.bench.runtime.signals import deferred
from twoview.loaders import datasets, presets
from twoview.loaders.beton import Beton
from twoview.loaders.loader import Loader
from twoview.loaders.names import checked_name, look_up
from twoview.loaders.views import View
from twoview.methods import checkpoint
from twoview.methods.normalize import Normalize
from twoview.methods.precision import Precision
from twoview.methods.probes import low_shot, protocols
from twoview.methods.probes.end_to_end import Classifier
from twoview.methods.probes.features import Features, Kept, extract, fingerprint
from twoview.methods.probes.knn import vote
from twoview.methods.probes.linear import logistic
from twoview.methods.probes.metrics import Metrics, metrics
from twoview.methods.probes.nearest import nearest
from twoview.methods.probes.sgd_grid import sgd_grid
from twoview.methods.trainer import Trainer

BATCH = 500
TEN = 10  # neighbors of the unweighted kNN
KNN_MIB = 768  # that finding neighbors may take
# What papers spent on the same probe, as far as they say it.
BUDGETS = {
    "knn": Budget(hours=40 / 60, memory_gib=30, provenance="found: Lee 2025, ImageNet with ResNet-50, 8 V100"),
    "end-to-end-lee2025": Budget(
        gpus=8, gpu="V100", hours=36, memory_gib=8, provenance="found: Lee 2025, ImageNet with ResNet-50"
    ),
}


@dataclass(frozen=True)
class Options:
    """How the probes are done, besides the recipe's `[probe]` table. Each is an option of `twoview probe`."""

    protocol: str = "lee2025"  # of the head trained end to end: lee2025, tan2024, solo-learn or vissl
    epochs: int = 0  # of end to end and fine-tuning, with the schedule in proportion; 0: the protocol's
    batch: int = 0  # of the same, with the rate in proportion; 0: the protocol's
    shots: tuple[str, ...] = ("1%", "10%", "5")  # of low-shot: shares of the labels, or images a class
    splits: int = low_shot.SPLITS  # how many times low-shot draws each of them
    lists: tuple[Path, ...] = ()  # files with a sample's number a line, to train low-shot on too
    seed: int = 0  # of heads, orders, augmentations and splits
    precision: Precision = "fp32"  # of the encoder, and of the features as they are stored
    features: Path | None = None  # folder in which the features stay, so that they are extracted once


@dataclass
class Bench:
    """An encoder on a dataset; its features, once they are asked for, and the seconds that took.

    data: the identity of the files that were read, as records have it.
    """

    encoder: Published
    dataset: datasets.Dataset
    settings: Probe
    place: Place
    options: Options = field(default_factory=Options)
    features_seconds: float = 0.0
    data: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    _features: tuple[Features, Features] | None = None
    _neighbors: list[tuple[Tensor, Tensor]] | None = None

    @property
    def normalize(self) -> Normalize:
        return self.encoder.normalize or Normalize(self.dataset.mean, self.dataset.std)

    @property
    def classes(self) -> int:
        return len(self.dataset.classes)

    def used(self, split: str) -> tuple[Beton, np.ndarray]:
        """The split's file and which of its samples are used."""
        file = betons.dataset_beton(self.dataset.name, split, self.place.betons, self.place.root)
        self.data |= betons.identity(file)
        self.left_out |= left_out(file)
        if split == "train":
            return file, chosen(file.labels, self.settings.held_out, self.settings.train_images)
        return file, chosen(file.labels, 0, self.settings.test_images)

    def features(self) -> tuple[Features, Features]:
        """Of the training and of the test images."""
        if self._features is None:
            started = time.perf_counter()
            self._features = self._extracted("train"), self._extracted("test")
            self.features_seconds = time.perf_counter() - started
        return self._features

    def neighbors(self) -> list[tuple[Tensor, Tensor]]:
        """Of the test images among the training images, as `nearest` finds them: enough for every kNN probe."""
        if self._neighbors is None:
            train, test = self.features()
            k = min(max(self.settings.k, TEN), len(train.x))
            self._neighbors = list(nearest(train.x, test.x, k, KNN_MIB, best_device()))
        return self._neighbors

    def _extracted(self, split: str) -> Features:
        device, precision = best_device(), self.options.precision
        module = self.encoder.module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        (view,) = presets.preset("eval", self.encoder.size)
        file, indices = self.used(split)
        kept = None
        if self.options.features:
            samples = [indices, file.labels[indices], *([file.checksums[indices]] if file.checksums.size else [])]
            name = fingerprint(module, self.normalize)
            kept = Kept(self.options.features, name, self.dataset.name, split, self.encoder.size, samples)
        with (
            in_turn(file, indices, view) as loader,
            progress(f"features of {self.dataset.name} {split} by {self.encoder.name}", len(loader)) as advance,
        ):
            normalize = self.normalize.to(device)
            return extract(module, loader, normalize, device, advance, precision=precision, kept=kept)


def left_out(file: Beton) -> dict[str, LeftOut]:
    """The file's name -> the images that could not be read as it was converted; empty if there are none."""
    images = int(file.about.get("left_out", 0))
    return {file.path.stem: LeftOut(images=images, names=list(file.about["left_out_names"]))} if images else {}


def in_turn(file: Beton, indices: np.ndarray, view: View) -> Loader:
    """Every image once, in order."""
    return Loader(file, (view,), BATCH, indices=indices, shuffle=False, drop_last=False, threads=cpu_count())


class Found(NamedTuple):
    """name: of the probe with what tells it from others of its kind. spread: of top1 over splits, None without."""

    name: str
    metrics: Metrics
    settings: dict[str, Any]
    train_images: int
    spread: float | None = None


def labels(name: str, options: Options) -> list[str]:
    """What the results of the probe of that name are called. ValueError if two are called the same, or one could be no
    part of a file's name.
    """
    if name == "low-shot":
        few = [*options.shots, *(checked_name("list of samples", path.stem) for path in options.lists)]
        if twice := next((one for one in few if few.count(one) > 1), None):
            raise ValueError(f"low-shot would have two results called {twice}: name the list or the share otherwise")
        return [f"low-shot-{one}" for one in few]
    return [f"end-to-end-{options.protocol}" if name == "end-to-end" else name]


def probe(bench: Bench, name: str) -> Iterator[tuple[str, Probed]]:
    """The results of the probe of that name, each with its own; low-shot has one for each number of labels.

    ValueError with the known names if there is none such.
    """
    import scipy.stats  # noqa: F401  # seconds of imports that are not the probe's
    import torchmetrics.classification  # noqa: F401

    run = look_up("probe", name, PROBES)
    on_features = name not in ("end-to-end", "fine-tune")
    if on_features:
        bench.features()
    peak, started = PeakMemory(), time.perf_counter()
    for found in run(bench):
        seconds = time.perf_counter() - started
        yield (
            found.name,
            Probed(
                top1=found.metrics.top1,
                top5=found.metrics.top5,
                per_class=list(found.metrics.per_class),
                interval=found.metrics.interval,
                train_images=found.train_images,
                test_images=found.metrics.images,
                seconds=seconds,
                features_seconds=bench.features_seconds if on_features else None,
                peak_host_mib=peak.host_mib,
                peak_device_mib=peak.device_mib,
                spread=found.spread,
                settings=found.settings,
            ),
        )
        peak, started = PeakMemory(), time.perf_counter()


def _knn(bench: Bench) -> Iterator[Found]:
    k, temperature = bench.settings.k, bench.settings.temperature
    yield _voted(bench, "knn", k, temperature, {"k": k, "temperature": temperature})


def _knn_10(bench: Bench) -> Iterator[Found]:
    """The rule of codes that call scikit-learn: at an infinite temperature all neighbors count the same."""
    yield _voted(bench, "knn-10", TEN, math.inf, {"k": TEN, "weights": "uniform"})


def _voted(bench: Bench, name: str, k: int, temperature: float, settings: dict[str, Any]) -> Found:
    train, test = bench.features()
    nearest = ((cosine[:, :k], row[:, :k]) for cosine, row in bench.neighbors())
    scores = vote(nearest, train.label, classes=bench.classes, temperature=temperature)
    return Found(name, metrics(scores, test.label), settings, len(train.x))


def _linear(bench: Bench) -> Iterator[Found]:
    (x, label), test = _on(best_device(), bench.features()[0]), bench.features()[1]
    head = logistic(x, label, bench.classes, weight_decay=bench.settings.weight_decay)
    settings = {"weight_decay": bench.settings.weight_decay}
    yield Found("linear", metrics(head.scores(test.x), test.label), settings, len(x))


def _sgd_grid(bench: Bench) -> Iterator[Found]:
    (x, label), test = _on(best_device(), bench.features()[0]), bench.features()[1]
    grid = sgd_grid(x, label, bench.classes, seed=bench.options.seed)
    settings = {**grid.best._asdict(), "tried": [list(one) for one in grid.tried]}
    settings["held_out_top1"] = settings.pop("top1")
    yield Found("sgd-grid", metrics(grid.head.scores(test.x), test.label), settings, len(x))


def _on(device: torch.device, features: Features) -> tuple[Tensor, Tensor]:
    return features.x.to(device), features.label.to(device)


def _low_shot(bench: Bench) -> Iterator[Found]:
    (x, label), test = _on(best_device(), bench.features()[0]), bench.features()[1]
    classes_of, options = label.cpu().numpy(), bench.options
    decay = bench.settings.weight_decay
    if options.splits < 1:
        raise ValueError(f"--splits must be at least 1, not {options.splits}")
    draws: dict[str, list[np.ndarray]] = {}
    for shot in options.shots:
        draw, amount = _shot(shot)
        draws[shot] = [draw(classes_of, amount, options.seed + number) for number in range(options.splits)]
    for path in options.lists:
        file, indices = bench.used("train")
        rows = np.searchsorted(indices, listed := low_shot.read_list(path, len(file)))
        if not np.isin(listed, indices).all():
            raise ValueError(f"{path} names samples that are not among those to train on")
        draws[path.stem] = [rows]
    for shot, splits in draws.items():
        found = low_shot.low_shot(x, label, *test, splits, bench.classes, weight_decay=decay)
        settings = {"weight_decay": decay, "top1": [one.top1 for one in found]}
        spread = low_shot.spread(found) if len(found) > 1 else None
        yield Found(f"low-shot-{shot}", low_shot.mean(found), settings, len(splits[0]), spread)


def _shot(text: str) -> tuple[Callable[..., np.ndarray], float]:
    """How to draw "1%", or "5" images a class."""
    try:
        if text.endswith("%") and 0 < float(text[:-1]) <= 100:
            return low_shot.labeled_share, float(text[:-1]) / 100
        if int(text) > 0:
            return low_shot.labeled_per_class, int(text)
    except ValueError:
        pass
    raise ValueError(f"low-shot takes a share of the labels such as 1%, or a number a class, not {text!r}")


def _end_to_end(bench: Bench) -> Iterator[Found]:
    yield _trained(bench, f"end-to-end-{bench.options.protocol}", bench.options.protocol)


def _fine_tune(bench: Bench) -> Iterator[Found]:
    yield _trained(bench, "fine-tune", "mae-finetune")


def _trained(bench: Bench, name: str, protocol_name: str) -> Found:
    """Trains a head as the protocol says, with a checkpoint after every epoch; a run that was stopped goes on there.

    ValueError if the checkpoint there is of other settings; OSError if another process writes it now.
    """
    protocol, options = protocols.protocol(protocol_name, bench.dataset.name), bench.options
    epochs, batch = options.epochs or protocol.epochs, options.batch or protocol.batch
    optim = protocol.optim.model_copy(
        update={
            "lr": protocol.optim.lr * batch / protocol.batch,
            "warmup_epochs": protocol.optim.warmup_epochs * epochs / protocol.epochs,
            "steps": tuple(step * epochs / protocol.epochs for step in protocol.optim.steps),
        }
    )
    settings = {
        "protocol": protocol_name,
        "found": protocol.found,
        "missing": protocol.missing,
        "epochs": epochs,
        "batch": batch,
        "optim": optim.model_dump(mode="json"),
        "seed": options.seed,
        "precision": options.precision,
        "dataset": bench.dataset.name,
        **bench.settings.model_dump(include={"train_images", "held_out"}),
        "encoder": bench.encoder.hash,
        "size": bench.encoder.size,
    }
    path = bench.place.checkpoints / f"{bench.encoder.name}-{in_a_file_name(bench.dataset.name)}-{name}.pt"
    with alone(path, "the checkpoint"):
        state, complaints = checkpoint.load_newest(path)
        for complaint in complaints:
            console.print(f"{complaint}; the checkpoint before it is taken", style="yellow", markup=False)
        if state:
            check_same(settings, state["recipe"], str(path), "remove it, or name another --out")
        device = best_device()
        torch.manual_seed(options.seed)
        method = Classifier(deepcopy(bench.encoder.module).cpu(), protocol, bench.classes, bench.encoder.size)
        normalize, precision = bench.normalize, options.precision
        trainer = Trainer(method, optim, epochs=epochs, normalize=normalize, device=device, precision=precision)
        if state:
            take_up(trainer, state, path)
        file, indices = bench.used("train")
        threads = 1 if device.type == "cpu" else cpu_count()
        pin = device.type == "cuda"
        with Loader(file, method.views, batch, indices=indices, seed=options.seed, threads=threads, pin=pin) as loader:
            steps = epochs * len(loader) - len(trainer.history.losses)
            with deferred() as asked, progress(f"{name} of {bench.encoder.name}", steps) as advance:
                trainer.fit(loader, path, settings, advance, asked)
    test, used = bench.used("test")
    method.eval()
    with in_turn(test, used, protocol.test(bench.encoder.size)) as loader, torch.no_grad():
        scores = (method.scores(trainer.normalize(batch.views[0].to(device))).float() for batch in loader.epoch(0))
        found = metrics(scores, torch.from_numpy(test.labels[used]))
    return Found(name, found, settings, len(indices))


PROBES: dict[str, Callable[[Bench], Iterator[Found]]] = {
    "knn": _knn,
    "knn-10": _knn_10,
    "linear": _linear,
    "sgd-grid": _sgd_grid,
    "low-shot": _low_shot,
    "end-to-end": _end_to_end,
    "fine-tune": _fine_tune,
}
