"""Gradient accumulation with the loss of the whole batch, in the memory of a part of it.

A contrastive loss compares all images of a batch, so the mean of the losses of its parts is another loss. Here only the
encoder sees one part after another, without keeping activations; heads and loss see the features of the whole batch.
The backward pass starts at the loss, and when it arrives at a part's features it runs the encoder on that part again,
this time with activations. The loss and its gradients are those of the whole batch, except for BatchNorm in the
encoder, whose statistics are those of a part.
Source: GradCache (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

Function = TypeVar("Function", bound=Callable[..., Any])
_running_again = False  # see `running_again`


class ByParts(nn.Module):
    """A module with functions that `by_parts` divides, which are the encoders and the methods.

    parts: number of parts of a batch in training. compile_parts: mode of torch.compile for a part, or "off".
    """

    parts: int = 1
    compile_parts: str = "off"


def by_parts(function: Function) -> Function:
    """Let a function of a `ByParts` module see a training batch part by part, in the memory of one part.

    function: takes the module and tensors, with the images in their first dimension, and returns a tensor or a tuple of
    tensors of the same kind. Each image's output must depend on no other image, except through BatchNorm. The number of
    images must be divisible by the module's `parts`.
    A part is every n-th image. If views are joined one after the other, a part therefore has all views of its images.
    """

    @functools.wraps(function)
    def whole(module: ByParts, *inputs: Tensor) -> Any:
        if module.parts == 1 or not module.training:
            return function(module, *inputs)
        return _in_turn(function, module, inputs)

    return whole  # type: ignore[return-value]


def divide(method: nn.Module, parts: int, compile: str) -> None:
    """Let the functions of a method and its encoders see training batches in so many parts.

    compile: mode of torch.compile for a part, or "off". A part is compiled by itself, so that the compiler's work does
    not grow with the number of parts. Raises ValueError if it is "max-autotune".
    """
    if compile == "max-autotune":
        raise ValueError(f"accumulate must be 1 with compile max-autotune, whose CUDA graphs keep memory, got {parts}")
    for module in method.modules():
        if isinstance(module, ByParts):
            module.parts, module.compile_parts = parts, compile


def joined(parts: list[Tensor]) -> Tensor:
    """Return the batch (B, ...) of which part n has the rows n, n + P, n + 2 P, ... parts: P tensors (B / P, ...)."""
    return torch.stack(parts, dim=1).flatten(0, 1) if len(parts) > 1 else parts[0]


@torch.compiler.disable
def _in_turn(function: Callable[..., Any], module: ByParts, inputs: tuple[Tensor, ...]) -> Any:
    """Return function(module, *inputs), computed part by part."""
    if module.compile_parts != "off":
        function = _compiled(function, module.compile_parts)
    outs = []
    for number in range(module.parts):
        # Autocast would use one bf16 copy of a weight for all parts, and sum its gradients over the parts in bf16.
        torch.clear_autocast_cache()
        part = [tensor[number :: module.parts] for tensor in inputs]
        outs.append(
            checkpoint(
                function, module, *part, use_reentrant=False, context_fn=lambda: (nullcontext(), _second_run(module))
            )
        )
    return tree_map(lambda *tensors: joined([*tensors]), *outs)


@functools.cache
def _compiled(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """Return the compiled function, the same for all modules."""
    compiled: Callable[..., Any] = torch.compile(function, mode=mode, dynamic=False)
    return compiled


@contextmanager
def _second_run(module: nn.Module) -> Iterator[None]:
    """The context in which a part is run again: BatchNorm's running statistics, which it has updated, stay the same."""
    global _running_again
    buffers = [buffer.data for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    _running_again = True
    try:
        yield
    finally:
        _running_again = False
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def running_again() -> bool:
    """Return whether a part is being run again, for the backward pass."""
    return _running_again
