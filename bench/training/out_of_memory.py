"""The error when memory runs out: the uses of the memory, and the batch or the `accumulate` that would fit."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from twoview.bench.config import experiment
from twoview.bench.config.recipe import Recipe
from twoview.bench.measurement.memory import GIB
from twoview.bench.training import memory_plan
from twoview.methods import ranks
from twoview.methods.precision import Precision


@contextmanager
def explained(recipe: Recipe[Any], device: torch.device, kind: Precision) -> Iterator[None]:
    """Turn running out of memory during the block, which trains, into a ValueError that explains it.

    The error names the batch, the views and their size, the uses of the memory, and the largest batch that would fit
    according to a count of the tensors, or the `accumulate` with which this batch would. All of it is for one rank and
    its share of the batch.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not experiment.ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # the frames hold the tensors of the step
        torch.cuda.empty_cache()
        raise ValueError(_sentence(recipe, device, kind)) from error


def _sentence(recipe: Recipe[Any], device: torch.device, kind: Precision) -> str:
    """Return the explanation. kind: the precision of training."""
    memory = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else experiment.memory_limit()
    mine = recipe.model_copy(update={"batch": recipe.batch // ranks.world()})
    try:
        with ranks.alone():  # the other ranks may have memory left, and take no part in this
            counted = memory_plan.counted(mine, device, kind, memory)
    except (MemoryError, RuntimeError) as error:  # counting builds the weights, which alone may be too large
        if not experiment.ran_out(error):
            raise
        return experiment.too_little_for_weights(recipe)
    held = sorted(counted.holdings._asdict().items(), key=lambda item: -item[1])
    holds = ", ".join(f"{name} {size / GIB:.2f}" for name, size in held if size)
    fits = f"a batch of {counted.fits}" if counted.fits else f"not even a batch of {counted.step}"
    parts = f", and so would this batch with accumulate {counted.parts}" if counted.parts else ""
    each = f" on each of {ranks.world()} ranks" if ranks.world() > 1 else ""
    return (
        f"{recipe.name} ran out of memory: batch {mine.batch}{each}, {counted.views} views at {recipe.size} px in "
        f"{kind} on {device} need {counted.peak / GIB:.2f} GiB for tensors ({holds}); {fits} would fit into the "
        f"device's {memory / GIB:.1f} GiB if nothing else used them{parts}; run `twoview plan` for details"
    )
