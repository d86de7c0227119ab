"""The probes. Each evaluates an encoder on a dataset, either on stored features or by training on images."""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
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

BATCH = 500  # images in a batch when features are extracted
TEN = 10  # neighbors of the unweighted kNN
KNN_MIB = 768  # memory for the neighbor search
# Time and memory that papers report for the same probe.
BUDGETS = {
    "knn": Budget(hours=40 / 60, memory_gib=30, provenance="found: Lee 2025, ImageNet with ResNet-50, 8 V100"),
    "end-to-end-lee2025": Budget(
        gpus=8, gpu="V100", hours=36, memory_gib=8, provenance="found: Lee 2025, ImageNet with ResNet-50"
    ),
}


@dataclass(frozen=True)
class Options:
    """Settings of the probes in addition to the recipe's `[probe]` table. Each is an option of `twoview probe`."""

    protocol: str = "lee2025"  # how end-to-end trains its linear head: lee2025, tan2024, solo-learn or vissl
    epochs: int = 0  # epochs of end-to-end and fine-tune, which scale the schedule; 0 means the protocol's
    batch: int = 0  # batch of end-to-end and fine-tune, which scales the learning rate; 0 means the protocol's
    shots: tuple[str, ...] = ("1%", "10%", "5")  # amounts of labels for low-shot: shares, or images per class
    splits: int = low_shot.SPLITS  # number of random draws of each amount by low-shot
    lists: tuple[Path, ...] = ()  # files with one sample number per line; low-shot trains on each of them too
    seed: int = 0  # seed of heads, image order, augmentations and splits
    precision: Precision = "fp32"  # precision of the encoder and of the stored features
    features: Path | None = None  # folder where features are stored, so that they are extracted only once


@dataclass
class Bench:
    """An encoder, the dataset on which it is probed, and the data that the probes share.

    Features and neighbors are computed when a probe first needs them, and then kept. settings: the `[probe]` table.
    place: where beton files and checkpoints are. features_seconds: time to compute the features. data: identity of
    the beton files that were read, for records. left_out: images missing from these files, for records.
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
        """The encoder's normalization, or the dataset's if the encoder has none."""
        return self.encoder.normalize or Normalize(self.dataset.mean, self.dataset.std)

    @property
    def classes(self) -> int:
        """The number of classes of the dataset."""
        return len(self.dataset.classes)

    def used(self, split: str) -> tuple[Beton, np.ndarray]:
        """Return the beton file of a split, and the numbers of the samples to use."""
        file = betons.dataset_beton(self.dataset, split, self.place.betons, self.place.root)
        self.data |= betons.identity(file)
        self.left_out |= left_out(file)
        if split == "train":
            return file, labeled(file, chosen(file.labels, self.settings.held_out, self.settings.train_images))
        return file, labeled(file, chosen(file.labels, 0, self.settings.test_images))

    def features(self) -> tuple[Features, Features]:
        """Return the features of the training images and of the test images."""
        if self._features is None:
            started = time.perf_counter()
            self._features = self._extracted("train"), self._extracted("test")
            self.features_seconds = time.perf_counter() - started
        return self._features

    def neighbors(self) -> list[tuple[Tensor, Tensor]]:
        """Return each test image's neighbors among the training images, as `nearest` yields them.

        Their number is the maximum that any kNN probe needs.
        """
        if self._neighbors is None:
            train, test = self.features()
            k = min(max(self.settings.k, TEN), len(train.x))
            self._neighbors = list(nearest(train.x, test.x, k, KNN_MIB, best_device()))
        return self._neighbors

    def _extracted(self, split: str) -> Features:
        """Extract the features of a split, or open them if they were stored."""
        return extracted(
            replace(self.encoder, normalize=self.normalize),
            *self.used(split),
            (self.dataset.name, split),
            device=best_device(),
            precision=self.options.precision,
            folder=self.options.features,
        )


def extracted(
    encoder: Published,
    file: Beton,
    indices: np.ndarray,
    called: tuple[str, str],
    *,
    device: torch.device,
    precision: Precision,
    batch: int = BATCH,
    folder: Path | None = None,
) -> Features:
    """Return the features of the images in a file with these numbers, in this order, or open them if they were stored.

    encoder: with its normalization. called: names of the dataset and of the split. folder: where features are stored;
    None if they are not.
    """
    module = encoder.module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    (view,), (dataset, split) = presets.preset("eval", encoder.size), called
    assert encoder.normalize
    kept = None
    if folder:
        samples = [indices, file.labels[indices], *([file.checksums[indices]] if file.checksums.size else [])]
        kept = Kept(folder, fingerprint(module, encoder.normalize), dataset, split, encoder.size, samples)
    with (
        in_turn(file, indices, view, batch) as loader,
        progress(f"features of {dataset} {split} by {encoder.name}", len(loader)) as advance,
    ):
        normalize = encoder.normalize.to(device)
        return extract(module, loader, normalize, device, advance, precision=precision, kept=kept)


def labeled(file: Beton, samples: np.ndarray) -> np.ndarray:
    """Return those of the samples that have a label: of your own images, some may have none."""
    found: np.ndarray = samples[file.labels[samples] >= 0]
    return found


def left_out(file: Beton) -> dict[str, LeftOut]:
    """Return the file's name -> the unreadable images that were skipped; empty if there are none."""
    images = int(file.about.get("left_out", 0))
    return {file.path.stem: LeftOut(images=images, names=list(file.about["left_out_names"]))} if images else {}


def in_turn(file: Beton, indices: np.ndarray, view: View, batch: int = BATCH) -> Loader:
    """Return a loader that yields every image once, in order."""
    return Loader(file, (view,), batch, indices=indices, shuffle=False, drop_last=False, threads=cpu_count())


class Found(NamedTuple):
    """One result of a probe.

    name: the probe's name, with a suffix if the probe has several results. settings: the settings that determine the
    result, for the record. train_images: number of labeled images. spread: standard deviation of top1 over splits, None
    if there is only one split.
    """

    name: str
    metrics: Metrics
    settings: dict[str, Any]
    train_images: int
    spread: float | None = None


def labels(name: str, options: Options) -> list[str]:
    """Return the names of the results of a probe.

    Raises ValueError if two results would have the same name, or if a name cannot be part of a file name.
    """
    if name == "low-shot":
        few = [*options.shots, *(checked_name("list of samples", path.stem) for path in options.lists)]
        if twice := next((one for one in few if few.count(one) > 1), None):
            raise ValueError(f"low-shot would have two results named {twice}: rename the list, or request it only once")
        return [f"low-shot-{one}" for one in few]
    return [f"end-to-end-{options.protocol}" if name == "end-to-end" else name]


def probe(bench: Bench, name: str) -> Iterator[tuple[str, Probed]]:
    """Run a probe and yield the name and values of each result; low-shot has one result per amount of labels.

    Raises ValueError, with the known names, if there is no such probe.
    """
    # Imported here, before the clock starts, so that importing does not count as time of the probe.
    import scipy.stats  # noqa: F401
    import torchmetrics.classification  # noqa: F401

    run = look_up("probe", name, PROBES)
    if not bench.classes:
        raise ValueError(f"the probe {name} needs labels, and {bench.dataset.name} has none: try `twoview features`")
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
    """Weighted kNN with the k and temperature of the `[probe]` table."""
    k, temperature = bench.settings.k, bench.settings.temperature
    yield _voted(bench, "knn", k, temperature, {"k": k, "temperature": temperature})


def _knn_10(bench: Bench) -> Iterator[Found]:
    """Unweighted kNN, like scikit-learn's default: with an infinite temperature, all neighbors have the same weight."""
    yield _voted(bench, "knn-10", TEN, math.inf, {"k": TEN, "weights": "uniform"})


def _voted(bench: Bench, name: str, k: int, temperature: float, settings: dict[str, Any]) -> Found:
    """Return the result of a kNN on the first k of the neighbors, which all kNN probes share."""
    train, test = bench.features()
    nearest = ((cosine[:, :k], row[:, :k]) for cosine, row in bench.neighbors())
    scores = vote(nearest, train.label, classes=bench.classes, temperature=temperature, device=best_device())
    return Found(name, metrics(scores, test.label), settings, len(train.x))


def _linear(bench: Bench) -> Iterator[Found]:
    """Multinomial logistic regression on features, solved to convergence."""
    (x, label), test = _on(best_device(), bench.features()[0]), bench.features()[1]
    head = logistic(x, label, bench.classes, weight_decay=bench.settings.weight_decay)
    settings = {"weight_decay": bench.settings.weight_decay}
    yield Found("linear", metrics(head.scores(test.x), test.label), settings, len(x))


def _sgd_grid(bench: Bench) -> Iterator[Found]:
    """Linear probes by SGD on features; learning rate and weight decay are chosen on held-out training features."""
    (x, label), test = _on(best_device(), bench.features()[0]), bench.features()[1]
    grid = sgd_grid(x, label, bench.classes, seed=bench.options.seed)
    settings = {**grid.best._asdict(), "tried": [list(one) for one in grid.tried]}
    settings["held_out_top1"] = settings.pop("top1")
    yield Found("sgd-grid", metrics(grid.head.scores(test.x), test.label), settings, len(x))


def _on(device: torch.device, features: Features) -> tuple[Tensor, Tensor]:
    """Return features and labels on the device."""
    return features.x.to(device), features.label.to(device)


def _low_shot(bench: Bench) -> Iterator[Found]:
    """Linear probes on few labels: one result per amount of labels, over several splits, and one per list."""
    (x, label), test = _on(best_device(), bench.features()[0]), bench.features()[1]
    classes_of, options = label.cpu().numpy(), bench.options
    decay = bench.settings.weight_decay
    if options.splits < 1:
        raise ValueError(f"--splits must be at least 1, got {options.splits}")
    draws: dict[str, list[np.ndarray]] = {}
    for shot in options.shots:
        draw, amount = _shot(shot)
        draws[shot] = [draw(classes_of, amount, options.seed + number) for number in range(options.splits)]
    for path in options.lists:
        file, indices = bench.used("train")
        # Lists have sample numbers of the file; features have only the rows of `indices`, which is sorted.
        rows = np.searchsorted(indices, listed := low_shot.read_list(path, len(file)))
        if not np.isin(listed, indices).all():
            raise ValueError(f"{path} lists samples that are not among the training samples")
        draws[path.stem] = [rows]
    for shot, splits in draws.items():
        found = low_shot.low_shot(x, label, *test, splits, bench.classes, weight_decay=decay)
        settings = {"weight_decay": decay, "top1": [one.top1 for one in found]}
        spread = low_shot.spread(found) if len(found) > 1 else None
        yield Found(f"low-shot-{shot}", low_shot.mean(found), settings, len(splits[0]), spread)


def _shot(text: str) -> tuple[Callable[..., np.ndarray], float]:
    """Return the function that draws an amount of labels, and its argument. text: "1%", or "5" for images per class."""
    try:
        if text.endswith("%") and 0 < float(text[:-1]) <= 100:
            return low_shot.labeled_share, float(text[:-1]) / 100
        if int(text) > 0:
            return low_shot.labeled_per_class, int(text)
    except ValueError:
        pass
    raise ValueError(f"low-shot must be a share of the labels such as 1%, or images per class such as 5, got {text!r}")


def _end_to_end(bench: Bench) -> Iterator[Found]:
    """A linear head trained on augmented images by a published protocol, on the frozen encoder."""
    yield _trained(bench, f"end-to-end-{bench.options.protocol}", bench.options.protocol)


def _fine_tune(bench: Bench) -> Iterator[Found]:
    """The encoder and a linear head trained together by MAE's protocol for fine-tuning."""
    yield _trained(bench, "fine-tune", "mae-finetune")


def _trained(bench: Bench, name: str, protocol_name: str) -> Found:
    """Train a head by a protocol and test it. Training resumes from the checkpoint of the last epoch, if there is one.

    Raises ValueError if that checkpoint has other settings; OSError if another process is writing it.
    """
    protocol, options = protocols.protocol(protocol_name, bench.dataset.name), bench.options
    epochs, batch = options.epochs or protocol.epochs, options.batch or protocol.batch
    # The learning rate is proportional to the batch; warm-up and decay steps are proportional to the epochs.
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
            console.print(f"{complaint}; the previous checkpoint is used instead", style="yellow", markup=False)
        if state:
            check_same(settings, state["recipe"], str(path), "remove that file, or use another --out")
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


# Name of a probe, as `--probes` takes it -> the function that yields its results.
PROBES: dict[str, Callable[[Bench], Iterator[Found]]] = {
    "knn": _knn,
    "knn-10": _knn_10,
    "linear": _linear,
    "sgd-grid": _sgd_grid,
    "low-shot": _low_shot,
    "end-to-end": _end_to_end,
    "fine-tune": _fine_tune,
}
