"""Checks of the arguments of losses. Each raises a ValueError of one sentence that names the argument at fault."""

import torch
from torch import Tensor

from twoview.methods.ranks import world


class NotFinite(ValueError, FloatingPointError):
    """A tensor has NaN or infinite values: a ValueError for callers of a loss, a diverged run for the trainer."""


def embeddings(**named: Tensor) -> None:
    """Raise ValueError unless all are finite, have the same shape (B, d), and hold at least two images over all ranks.

    The error names the argument at fault. Values are checked only on a CPU and outside compiled code: on a GPU the
    check would synchronize host and device in every step, in compiled code it would break the graph, and the trainer
    stops at a NaN loss anyway.
    """
    shapes = {name: tuple(z.shape) for name, z in named.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(f"embeddings must all have the same shape (B, d), got {_listed(shapes)}")
    for name, z in named.items():
        if len(z) * world() < 2:
            raise ValueError(f"{name} holds {len(z)} embedding: a batch needs at least 2")
        finite(name, z)


def finite(name: str, z: Tensor) -> None:
    """Raise NotFinite naming the first NaN or infinite value, if the tensor's values are checked (see `embeddings`)."""
    if _looked_at(z) and not torch.isfinite(z).all():
        at = tuple((~torch.isfinite(z)).nonzero()[0].tolist())
        raise NotFinite(f"{name} must be finite, got {name}{list(at)} = {z[at].item()}")


def positive(name: str, value: float) -> None:
    """Raise ValueError, naming the argument, unless the value is above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")


def at_least_zero(name: str, value: float) -> None:
    """Raise ValueError, naming the argument, unless the value is 0 or above."""
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or above, got {value}")


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ValueError, naming the argument `name`, unless the value is one of `known`."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def exponent(gamma: float) -> None:
    """Raise ValueError unless gamma is in (0, 2]: exp(-d^gamma) is a positive definite kernel for these values only."""
    if not 0 < gamma <= 2:
        raise ValueError(f"gamma must be above 0 and at most 2, got {gamma}")


def share(name: str, value: float) -> None:
    """Raise ValueError, naming the argument, unless the value is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def even_width(**named: Tensor) -> None:
    """Raise ValueError, naming the argument, unless the (B, d) embeddings can be split into two halves."""
    for name, z in named.items():
        if z.shape[1] % 2:
            raise ValueError(f"{name} is {z.shape[1]} wide: two halves need an even width")


def labels(label: Tensor, batch: int) -> None:
    """Raise ValueError unless there is one integer label for each image of the batch."""
    if tuple(label.shape) != (batch,) or label.is_floating_point():
        raise ValueError(f"label must be whole numbers of shape ({batch},), got {tuple(label.shape)} of {label.dtype}")


def prior(log_prior: Tensor, batch: int) -> None:
    """Raise ValueError unless there is one finite value for each image of the batch."""
    if tuple(log_prior.shape) != (batch,):
        raise ValueError(f"log_prior must have shape ({batch},), got {tuple(log_prior.shape)}")
    finite("log_prior", log_prior)


def queue(queue: Tensor, width: int) -> None:
    """Raise ValueError unless the queue is finite and holds at least one key, and keys are as wide as the queries."""
    if queue.ndim != 2 or not len(queue) or queue.shape[1] != width:
        raise ValueError(f"queue must have shape (K, {width}) with K >= 1, as wide as query, got {tuple(queue.shape)}")
    finite("queue", queue)


def anchors(anchors: Tensor) -> None:
    """Raise ValueError unless the anchors are finite, of shape (V, B, d), with V >= 1 and two images over all ranks."""
    if anchors.ndim != 3 or not len(anchors) or anchors.shape[1] * world() < 2:
        raise ValueError(f"anchors must have shape (V, B, d) with V >= 1 and B >= 2, got {tuple(anchors.shape)}")
    finite("anchors", anchors)


def target(target: Tensor, batch: int, count: int) -> None:
    """Raise ValueError unless the target is finite, with a row for each image and a column for each prototype."""
    if tuple(target.shape) != (batch, count):
        raise ValueError(f"target must have shape ({batch}, {count}), images by prototypes, got {tuple(target.shape)}")
    finite("target", target)


def patches(name: str, predicted: Tensor, hidden: Tensor, width: int) -> None:
    """Raise ValueError unless the prediction is finite, (B, M, width), and there are hidden patches, (B, M), M >= 1."""
    if tuple(predicted.shape) != (*hidden.shape, width) or not hidden.numel():
        raise ValueError(
            f"{name} must have shape {(*hidden.shape, width)} and not be empty, got {tuple(predicted.shape)}"
        )
    finite(name, predicted)


def prototypes(prototypes: Tensor, width: int) -> None:
    """Raise ValueError unless there is a prototype, and all prototypes are finite and as wide as the embeddings."""
    if prototypes.ndim != 2 or not len(prototypes) or prototypes.shape[1] != width:
        raise ValueError(
            f"prototypes must have shape (K, {width}) with K >= 1, as wide as the embeddings, "
            f"got {tuple(prototypes.shape)}"
        )
    finite("prototypes", prototypes)


def distribution(name: str, p: Tensor, count: int) -> None:
    """Raise ValueError unless p is a distribution over K prototypes: (K,), with all shares above 0 and sum 1."""
    if tuple(p.shape) != (count,):
        raise ValueError(f"{name} must have shape ({count},), a share for each prototype, got {tuple(p.shape)}")
    if _looked_at(p):
        if not (p > 0).all():
            at = int((~(p > 0)).nonzero()[0])
            raise ValueError(f"{name} must be above 0, got {name}[{at}] = {p[at].item():g}")
        if abs(p.double().sum().item() - 1) > 1e-4:
            raise ValueError(f"{name} must sum to 1, got {p.double().sum().item():g}")


def _looked_at(z: Tensor) -> bool:
    """Whether the values of a tensor are checked, not only its shape (see `embeddings`)."""
    return z.device.type == "cpu" and not torch.compiler.is_compiling()


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return " and ".join(f"{name} {shape}" for name, shape in shapes.items())
