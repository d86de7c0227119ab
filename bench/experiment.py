"""A recipe made concrete on this machine: its files, loaders and encoder; training it and judging it."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import betons
from bench.environment import cpu_count
from bench.evidence import Accuracy, Ceilings, Run, Training
from bench.memory import PeakMemory
from bench.progress import console, progress
from bench.recipe import Recipe, parse
from loaders import datasets, presets
from loaders.beton import Beton
from loaders.loader import Loader
from loaders.samplers import subset
from methods import backbones, checkpoint, precision, registry
from methods.method import Method
from methods.normalise import Normalise
from methods.probes.features import extract
from methods.probes.knn import knn_top1
from methods.probes.linear import linear_top1
from methods.trainer import Trainer

CEILING_ROUNDS = 3
CEILING_STEPS = 5
PROBE_BATCH = 500
SUBSET_SEED = 0  # which images a recipe's subset holds is part of the recipe, not of a run's seed


@dataclass(frozen=True)
class Place:
    """Where an experiment keeps its things: two folders, and the folder of the user's datasets, if any."""

    betons: Path
    checkpoints: Path
    root: Path | None

    def checkpoint(self, recipe: Recipe[Any]) -> Path:
        return self.checkpoints / f"{run_name(recipe)}.pt"


def run_name(recipe: Recipe[Any]) -> str:
    return f"{recipe.name}-seed{recipe.seed}"


def train(recipe: Recipe[Any], place: Place, resume: bool) -> Path:
    """Trains the recipe's method; returns its checkpoint, which holds recipe, weights and all that was measured.

    resume: take up the checkpoint that is there. Without it an existing checkpoint is an error, never overwritten.
    ValueError if the checkpoint there is of another recipe.
    """
    path = place.checkpoint(recipe)
    state = _checkpoint_to_resume(path, recipe) if resume else None
    if state is None and path.exists():
        raise FileExistsError(f"{path} exists: go on with --resume, or name another --out")
    if state and "measured" in state:
        return path
    device = best_device()
    kind = state["precision"] if state else _precision(recipe, device)
    train_file = betons.of_dataset(recipe.dataset, "train", place.betons, place.root)
    method = build_method(recipe)
    trainer = Trainer(
        method, recipe.optim, epochs=recipe.epochs, normalise=normalise_for(recipe), device=device, precision=kind
    )
    if state:
        trainer.resume(state)
        console.print(f"{path} goes on after epoch {trainer.finished_epochs} of {recipe.epochs}")
    with _train_loader(recipe, train_file, method, device) as loader:
        steps = (recipe.epochs - trainer.finished_epochs) * len(loader)
        peak = PeakMemory()
        with progress(f"train {run_name(recipe)} in {kind}", steps) as advance:
            trainer.fit(loader, path, recipe.model_dump(mode="json"), advance)
        left = _measure(trainer, loader, peak, run_name(recipe))
    checkpoint.save(path, {**checkpoint.load(path), "measured": left})
    return path


def judge(path: Path, place: Place) -> Run:
    """Probes a finished checkpoint's encoder; returns the record of the run. ValueError if training is not finished."""
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    training, ceilings = measured(path)
    method = build_method(recipe)
    method.load_state_dict(state["method"])
    return Run(
        name=run_name(recipe),
        subject="trained",
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        accuracy=_probe(run_name(recipe), recipe, method.encode, method, place),
        training=training,
        ceilings=ceilings,
    )


def measured(path: Path) -> tuple[Training, Ceilings]:
    """What training left in its checkpoint besides the weights. ValueError if training is not finished."""
    state = checkpoint.load(path)
    if "measured" not in state:
        epochs = state["recipe"]["epochs"]
        raise ValueError(f"{path} is at epoch {state['epoch']} of {epochs}: finish it with `twoview train --resume`")
    return Training(**state["measured"]["training"]), Ceilings(**state["measured"]["ceilings"])


def judge_untrained(recipe: Recipe[Any], place: Place) -> Run:
    """The record of the recipe's encoder as the seed made it, before the first step."""
    method = build_method(recipe)
    name = baseline_name("untrained", recipe)
    return _baseline("untrained", recipe, _probe(name, recipe, method.encode, method, place))


def judge_pixels(recipe: Recipe[Any], place: Place) -> Run:
    """The record of the normalised pixels themselves as the representation."""
    name = baseline_name("pixels", recipe)
    return _baseline("pixels", recipe, _probe(name, recipe, lambda x: x, None, place))


def baseline_name(subject: str, recipe: Recipe[Any]) -> str:
    """Pixels depend on the data alone; an untrained encoder on backbone and seed too, but on no method."""
    judged_by = recipe.model_dump_json(include={"dataset", "size", "probe"})
    if subject == "pixels":
        return f"pixels-{recipe.dataset}-{recipe.size}-{_hash(judged_by)}"
    encoder = f"{recipe.backbone.name}-{_hash(judged_by + recipe.backbone.model_dump_json())}"
    return f"untrained-{recipe.dataset}-{recipe.size}-{encoder}-seed{recipe.seed}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def build_method(recipe: Recipe[Any]) -> Method:
    """The method with fresh weights; the encoder's depend on backbone and seed alone, whatever the method."""
    torch.manual_seed(recipe.seed)
    encoder = backbones.build(recipe.backbone)
    views = presets.preset(recipe.views, recipe.size)
    classes = len(datasets.dataset(recipe.dataset).classes)
    return registry.entry(recipe.method.name).build(recipe.method, encoder, views, classes)


def normalise_for(recipe: Recipe[Any]) -> Normalise:
    dataset = datasets.dataset(recipe.dataset)
    return Normalise(dataset.mean, dataset.std)


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _precision(recipe: Recipe[Any], device: torch.device) -> precision.Precision:
    kind: precision.Precision = precision.fastest(device) if recipe.precision == "auto" else recipe.precision
    return kind


def _checkpoint_to_resume(path: Path, recipe: Recipe[Any]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    state = checkpoint.load(path)
    mine = recipe.model_dump(mode="json")
    theirs = state["recipe"].get("method", {}).get("name")
    if theirs != recipe.method.name:
        raise ValueError(f"{path} is of another recipe: its method is {theirs!r}, not {recipe.method.name!r}")
    for key in mine:
        if state["recipe"].get(key) != mine[key]:
            raise ValueError(
                f"{path} is of another recipe: its {key} is {state['recipe'].get(key)!r}, not {mine[key]!r}"
            )
    return state


def _train_loader(recipe: Recipe[Any], file: Beton, method: Method, device: torch.device) -> Loader:
    indices = subset(file.labels, recipe.train_images, SUBSET_SEED) if recipe.train_images else None
    threads = recipe.loader_threads or (1 if device.type == "cpu" else cpu_count())
    pin = device.type == "cuda"
    return Loader(file, method.views, recipe.batch, indices=indices, seed=recipe.seed, threads=threads, pin=pin)


def _measure(trainer: Trainer, loader: Loader, peak: PeakMemory, what: str) -> dict[str, Any]:
    """What `measured` reads again: the training's samples, and the ceilings, for which the trainer is spent."""
    ceilings = _ceilings(trainer, loader, what)
    training = Training(
        epoch_seconds=trainer.history.epoch_seconds,
        wait_seconds=trainer.history.wait_seconds,
        views_per_epoch=len(loader) * loader.batch * len(loader.views),
        losses=trainer.history.losses,
        logged=trainer.history.logged,
        precision=trainer.precision,
        device=str(trainer.device),
        loader_threads=loader.threads,
        model_threads=torch.get_num_threads(),
        peak_host_mib=peak.host_mib,
        peak_device_mib=peak.device_mib,
    )
    return {"training": training.model_dump(), "ceilings": ceilings.model_dump()}


def _ceilings(trainer: Trainer, loader: Loader, what: str) -> Ceilings:
    """Rates of the loader alone and of the model alone on a resident batch, in turn. Spends the trainer."""
    views = loader.batch * len(loader.views)
    rates: tuple[list[float], list[float]] = [], []
    resident = next(loader.epoch(0))
    resident = resident._replace(views=tuple(view.to(trainer.device) for view in resident.views))
    with progress(f"ceilings of {what}", CEILING_ROUNDS) as advance:
        for number in range(CEILING_ROUNDS):
            rates[0].append(views * _batches_per_s(loader, number))
            rates[1].append(views * CEILING_STEPS / _step_seconds(trainer, resident))
            advance()
    return Ceilings(loader_views_per_s=rates[0], model_views_per_s=rates[1])


def _batches_per_s(loader: Loader, epoch: int) -> float:
    """Between the first batch and the last of at most fifty."""
    arrivals = [time.perf_counter() for _ in islice(loader.epoch(epoch), 50)]
    if len(arrivals) < 2:
        raise ValueError("the loader's rate needs at least two batches an epoch: take a smaller batch or more images")
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])


def _step_seconds(trainer: Trainer, batch: Any) -> float:
    start = time.perf_counter()
    for _ in range(CEILING_STEPS):
        out = trainer.step(batch, trainer.epochs)
    out["loss"].item()  # waits for the device
    return time.perf_counter() - start


def _baseline(subject: Any, recipe: Recipe[Any], accuracy: Accuracy) -> Run:
    return Run(
        name=baseline_name(subject, recipe),
        subject=subject,
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        accuracy=accuracy,
    )


def _probe(
    what: str, recipe: Recipe[Any], encode: Callable[[Tensor], Tensor], method: Method | None, place: Place
) -> Accuracy:
    device = best_device()
    if method:
        method.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with (
        _probe_loader(recipe, "train", recipe.probe.train_images, place) as train_loader,
        _probe_loader(recipe, "test", recipe.probe.test_images, place) as test_loader,
        progress(f"probe {what}", len(train_loader) + len(test_loader) + 2) as advance,
    ):
        normalise = normalise_for(recipe).to(device)
        train = extract(encode, train_loader, normalise, device, advance)
        test = extract(encode, test_loader, normalise, device, advance)
        knn = knn_top1(*train, *test, k=recipe.probe.k, temperature=recipe.probe.temperature)
        advance()
        linear = linear_top1(*train, *test, weight_decay=recipe.probe.weight_decay)
        advance()
    return Accuracy(knn_top1=knn, linear_top1=linear, train_images=len(train[0]), test_images=len(test[0]))


def _probe_loader(recipe: Recipe[Any], split: datasets.Split, count: int, place: Place) -> Loader:
    file = betons.of_dataset(recipe.dataset, split, place.betons, place.root)
    indices = subset(file.labels, count, SUBSET_SEED) if count else None
    views = presets.preset("eval", recipe.size)
    return Loader(file, views, PROBE_BATCH, indices=indices, shuffle=False, drop_last=False, threads=cpu_count())
