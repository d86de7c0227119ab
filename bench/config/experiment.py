"""Builds what a recipe describes on this machine: its method, device, trainer, training images and loader."""

import contextlib
import os
import resource
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twoview.bench.config import starts
from twoview.bench.config.progressive import Growing
from twoview.bench.config.recipe import Recipe, dataset_of, parse
from twoview.bench.config.views import made, numbered
from twoview.bench.measurement.memory import GIB, bytes_of
from twoview.bench.runtime.cores import cpu_count
from twoview.loaders import datasets
from twoview.loaders.beton import Beton
from twoview.loaders.errors import reason
from twoview.loaders.loader import Loader
from twoview.loaders.resident import Resident, fits
from twoview.loaders.samplers import classes_a_batch, long_tail, subset
from twoview.loaders.views import View
from twoview.methods import backbones, checkpoint, precision, ranks, registry, timm_models
from twoview.methods import weights as weights_in
from twoview.methods.encoder import Encoder
from twoview.methods.method import Method
from twoview.methods.normalize import Normalize
from twoview.methods.probes.online import Online
from twoview.methods.trainer import Trainer

HELD_OUT_SEED = 42  # the seed in lightning-bolts' data modules, see `chosen`
# Files with the memory limit of this process's control group, in bytes: cgroup v2 and v1.
CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
SUBSET_SEED = 0  # a recipe's subset of images is the same for every seed of a run


@dataclass(frozen=True)
class Place:
    """Where an experiment keeps its files.

    betons: folder of the beton files that datasets are converted to. checkpoints: folder of the checkpoints. root: the
    folder with the user's datasets, or None.
    """

    betons: Path
    checkpoints: Path
    root: Path | None

    def checkpoint(self, recipe: Recipe[Any]) -> Path:
        """Return the path of the recipe's checkpoint."""
        return self.checkpoints / f"{run_name(recipe)}.pt"


def place_of(out: Path, betons: Path | None, data_root: Path | None) -> Place:
    """Return where an experiment keeps its files.

    out: the folder with its checkpoints, in OUT/checkpoints. betons: the folder of its beton files, by default
    OUT/betons. data_root: the folder of the user's datasets, by default the one in TWOVIEW_DATA, if that is set.
    Raises FileNotFoundError if the folder of datasets does not exist.
    """
    return Place(betons or out / "betons", out / "checkpoints", datasets.data_root(data_root))


def run_name(recipe: Recipe[Any]) -> str:
    """Return the name of the recipe's run with its seed. Checkpoints and records have this name."""
    return f"{recipe.name}-seed{recipe.seed}"


def build_method(recipe: Recipe[Any]) -> Method:
    """Return the method before its first step. torch's global generators keep their state.

    Its weights are newly drawn, except those of an encoder that `backbone.checkpoint` holds. The encoder's weights
    depend on backbone and seed only, whatever the method.
    Raises ValueError if there is not enough memory for the weights, if possible before any memory is allocated; and
    FileNotFoundError or ValueError, naming the file, if `backbone.checkpoint` does not hold this encoder.
    """
    method, _ = _fresh(recipe)
    return method


def _fresh(recipe: Recipe[Any]) -> tuple[Method, Tensor]:
    """Return what `build_method` returns, and the state of torch's CPU generator after it has drawn the weights."""
    need, there = _bytes(outline(recipe)), memory_limit()
    if need > there:
        raise ValueError(
            f"{recipe.name}: its weights must fit into {there / GIB:.1f} GiB of memory, got {need / GIB:,.1f} GiB"
        )
    try:
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(recipe.seed)
            return _made(recipe), torch.get_rng_state()
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise ValueError(too_little_for_weights(recipe)) from None


def too_little_for_weights(recipe: Recipe[Any]) -> str:
    """Return the error text for a run that ran out of memory before the memory of a step could be counted."""
    need, there = _bytes(outline(recipe)), memory_limit()
    return (
        f"{recipe.name} ran out of memory: its weights take {need / GIB:.2f} GiB, and together with their gradients "
        f"and the optimizer's state they must fit into the free part of {there / GIB:.1f} GiB of memory"
    )


def _bytes(method: Method) -> int:
    """Return the size of the parameters and buffers, in bytes."""
    return bytes_of([*method.parameters(), *method.buffers()])


def outline(recipe: Recipe[Any]) -> Method:
    """Return the method on torch's meta device: its parameters and buffers have shapes but take no memory.

    Raises ValueError if a model of timm cannot take the recipe's views.
    """
    with torch.device("meta"):
        method = _made(starts.randomly_started(recipe))
    if recipe.backbone.name.startswith(timm_models.TIMM):
        encoder: Any = method.encoder
        for side in sorted({view.size for size in _sizes(recipe) for view in made(recipe.views, size)}):
            timm_models.check_side(encoder.body, recipe.backbone.name, side)
    return method


def _sizes(recipe: Recipe[Any]) -> set[int]:
    """Return the sizes of the recipe's views in all epochs, in pixels."""
    epochs = range(recipe.epochs) if recipe.progressive.start else ()
    return {recipe.size, *(recipe.progressive.side(recipe.size, epoch) for epoch in epochs)}


def trained_method(recipe: Recipe[Any], weights: dict[str, Tensor], path: Path) -> Method:
    """Return the method with the weights of a checkpoint.

    Raises ValueError, naming the path and the weight, if the weights belong to another method or are not all finite.
    """
    mine = outline(recipe).state_dict()
    for key, tensor in mine.items():
        if key not in weights:
            raise ValueError(f"{path} does not hold the weights of its own recipe: {key} is missing")
        if (weights[key].shape, weights[key].dtype) != (tensor.shape, tensor.dtype):
            theirs, ours = (f"{one.dtype} {tuple(one.shape)}" for one in (weights[key], tensor))
            raise ValueError(f"{path} does not hold the weights of its own recipe: {key} must be {ours}, got {theirs}")
        if not checkpoint.finite(weights[key]):
            raise ValueError(f"{path}: {key} must be finite, got NaN or infinity")
    for key in weights.keys() - mine.keys():
        raise ValueError(f"{path} does not hold the weights of its own recipe: {key} is unexpected")
    method = build_method(starts.randomly_started(recipe))
    method.load_state_dict(weights)
    return method


def evaluated(recipe: Recipe[Any], method: Method, momentum: bool) -> Any:
    """Return the network of a trained method that the probes evaluate, or the moving average of its encoder.

    Raises ValueError if the method has no moving average.
    """
    encoder = method.averaged if momentum else method.probed
    if encoder is None:
        raise ValueError(f"--momentum needs a method with a moving average, and {recipe.method.name} has none")
    return encoder


def take_up(trainer: Trainer, state: dict[str, Any], path: Path) -> None:
    """Resume the trainer from the state in a checkpoint. Raises ValueError, naming the path, if it is another run's."""
    try:
        trainer.resume(state)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        if ran_out(error):
            raise
        raise ValueError(f"{path} cannot be resumed from: {reason(error)}") from None


def ran_out(error: Exception) -> bool:
    """Return whether the error says that memory ran out. On a CPU torch raises a plain RuntimeError for that."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _made(recipe: Recipe[Any]) -> Method:
    """Return the recipe's method, with weights drawn from torch's global generator or from `backbone.checkpoint`."""
    encoder = backbones.build(recipe.backbone, recipe.size)
    if recipe.backbone.checkpoint:
        _start(encoder, recipe)  # before the method is built, which may copy the encoder
    views = made(recipe.views, recipe.size)
    classes = len(dataset_of(recipe).classes)
    method = registry.entry(recipe.method.name).build(recipe.method, encoder, views, classes)
    return Online(method, classes) if recipe.probe.online else method


def _start(encoder: Encoder, recipe: Recipe[Any]) -> None:
    """Load the encoder in the file `backbone.checkpoint`: a training run's, an exported one, or another library's."""
    backbone, path = recipe.backbone, Path(recipe.backbone.checkpoint)
    content = starts.content(backbone)
    if weights_in.is_own(content):
        state = checkpoint.load(path)
        theirs: Any = trained_method(parse(state["recipe"], str(path)), state["method"], path).probed
        tensors = theirs.body.state_dict()
    else:
        tensors = starts.converted(content, encoder, backbone)
    starts.fill(encoder, tensors, recipe)


def views_of(recipe: Recipe[Any], epoch: int | None = None) -> tuple[View, ...]:
    """Return the views that the loader makes of each image: the recipe's views, repeated as its method requires.

    A view is one crop of the image with its augmentations. epoch: the epoch that has the views, which may be smaller in
    the first ones; None means the recipe's size.
    """
    side = recipe.size if epoch is None else recipe.progressive.side(recipe.size, epoch)
    return tuple(view for _, view in numbered(recipe.views, side, recipe.method))


def normalize_for(recipe: Recipe[Any]) -> Normalize:
    """Return the normalization by the channel mean and standard deviation of the recipe's dataset, or of ImageNet."""
    if recipe.normalize == "imagenet":
        return Normalize(datasets.IMAGENET_MEAN, datasets.IMAGENET_STD)
    dataset = dataset_of(recipe)
    return Normalize(dataset.mean, dataset.std)


def best_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(name: str) -> torch.device:
    """Return the device for `--device`; under torchrun, each rank gets its own GPU.

    name: auto, or one of torch's device names. A CUDA device also becomes torch's current device.
    Raises ValueError for a CUDA device if there is none.
    """
    device = best_device() if name == "auto" else torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("--device cuda: torch sees no CUDA device here")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def precision_for(recipe: Recipe[Any], device: torch.device) -> precision.Precision:
    """Return the precision of the recipe's autocast; for "auto", the one that is fastest for its encoder on the device.

    torch's global generators keep their state.
    """
    if recipe.precision != "auto":
        chosen: precision.Precision = recipe.precision
        return chosen
    if device.type == "cuda":
        return precision.on_gpu()
    with torch.random.fork_rng(devices=()):
        encoder = backbones.build(recipe.backbone, recipe.size).to(memory_format=torch.channels_last)
        return precision.on_cpu(encoder, recipe.size)


def trainer(recipe: Recipe[Any], device: torch.device, kind: precision.Precision | None = None) -> Trainer:
    """Return a trainer on the device for the recipe's method with newly drawn weights.

    kind: precision of autocast, by default the recipe's own.
    torch's global generators, from which methods draw random numbers during training (drop path), are seeded here with
    the recipe's seed; the CPU generator continues after the draws of the weights. The trainer reseeds the generators on
    every rank but the first.
    """
    method, drawn = _fresh(recipe)
    torch.manual_seed(recipe.seed)
    torch.set_rng_state(drawn)
    return Trainer(
        method,
        recipe.optim,
        epochs=recipe.epochs,
        normalize=normalize_for(recipe),
        device=device,
        precision=kind or precision_for(recipe, device),
        compile=recipe.compile,
        cuda_graph=recipe.cuda_graph,
        sync_batchnorm=recipe.sync_batchnorm,
        accumulate=recipe.accumulate,
        checkpoint_steps=recipe.checkpoint_steps,
    )


def train_loader(
    recipe: Recipe[Any], file: Beton, method: Method, device: torch.device, threads: int | None = None
) -> Loader | Growing:
    """Return the loader of the recipe's training images and views from its beton file.

    method: the loader makes the views and masks of this method. threads: number of threads if the recipe sets none; by
    default every core if the model is on a GPU, else 1.
    Raises ValueError if a batch cannot be divided equally among the ranks and into the parts of `accumulate` or does
    not fit into memory, or if the recipe's views grow and the method masks patches.
    """
    indices = train_images(recipe, file.labels)
    threads = recipe.loader_threads or threads or (1 if device.type == "cpu" else cpu_count())
    order = None
    if recipe.classes_per_batch:
        order = partial(
            classes_a_batch,
            file.labels[indices],
            recipe.batch,
            recipe.classes_per_batch,
            recipe.seed,
            replace=recipe.with_replacement,
            parts=ranks.world() if recipe.classes_per_rank else 1,
        )
    if recipe.batch % ranks.world():
        raise ValueError(f"batch must be divisible by the number of ranks ({ranks.world()}), got {recipe.batch}")
    shared: dict[str, Any] = {
        "indices": indices,
        "masks": method.masks,
        "order": order,
        "seed": recipe.seed,
        "rank": ranks.rank(),
        "world": ranks.world(),
    }
    batch = recipe.batch // ranks.world()
    if batch % recipe.accumulate:
        raise ValueError(f"the batch of a rank must be divisible by accumulate, {recipe.accumulate}, got {batch}")
    _check_batch(recipe, batch, method.views)
    on_gpu = device.type == "cuda"
    resident = recipe.resident == "on" or (recipe.resident == "auto" and on_gpu and fits(file, device, indices))

    def loader(views: tuple[View, ...]) -> Loader:
        if resident:
            return Resident(file, views, batch, device=device, **shared)
        return Loader(file, views, batch, threads=threads, pin=on_gpu, on_error=recipe.damaged, **shared)

    if not recipe.progressive.start:
        return loader(method.views)
    if method.masks:
        raise ValueError(
            f"progressive cannot be used with {recipe.method.name}, which masks patches of views of one size"
        )
    return Growing(partial(views_of, recipe), loader)


def _check_batch(recipe: Recipe[Any], batch: int, views: tuple[View, ...]) -> None:
    """Raise ValueError if the views of one batch take more than the memory of this machine."""
    need = batch * sum(3 * view.size**2 for view in views)
    if need > (there := memory_limit()):
        raise ValueError(
            f"{recipe.name}: a batch must fit into {there / GIB:.1f} GiB of memory, but the views of {batch:,} images "
            f"take {need / GIB:,.1f} GiB"
        )


def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the machine's, or less by a cgroup or `ulimit -v`."""
    most = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in CGROUP:
        with contextlib.suppress(OSError, ValueError):  # the file does not exist, or says "max"
            most.append(int(file.read_text()))
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if addresses != resource.RLIM_INFINITY:
        most.append(addresses)
    return min(most)


def train_images(recipe: Recipe[Any], labels: np.ndarray) -> np.ndarray:
    """Return the numbers of the samples to pretrain on. labels: int64 (N,), the train split's."""
    kept = chosen(labels, recipe.held_out, recipe.train_images)
    if recipe.long_tail.ratio > 1:
        kept = kept[long_tail(labels[kept], recipe.long_tail.ratio, recipe.long_tail.kind, SUBSET_SEED)]
    return kept


def chosen(labels: np.ndarray, held_out: int, count: int) -> np.ndarray:
    """Return the sorted numbers of the samples to use: `count` that are not held out, the same number per class.

    labels: int64 (N,). held_out: number of samples to hold out. count: 0 means all.
    The held-out samples are the last ones of a permutation by torch's generator with seed 42. This is the split that
    `random_split` makes in the data modules of lightning-bolts, which the official code of Tan et al. 2024 uses.
    Raises ValueError if no sample would be left.
    """
    if held_out >= len(labels):
        raise ValueError(f"{held_out} images cannot be held out of {len(labels)}: at least one must be left")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(HELD_OUT_SEED)).numpy()
    kept = np.sort(order[: len(labels) - held_out])
    return kept[subset(labels[kept], count, SUBSET_SEED)] if count else kept
