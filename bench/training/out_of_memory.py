"""What to say when memory runs out: who holds how much, and what would fit."""

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
    """Around a training: memory that runs out is a ValueError naming batch, views, resolution and buffers, what each
    holds, and the batch that would fit by what can be counted. One rank's share of the batch is what is counted.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not experiment.ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the step's tensors
        torch.cuda.empty_cache()
        raise ValueError(_sentence(recipe, device, kind)) from error


def _sentence(recipe: Recipe[Any], device: torch.device, kind: Precision) -> str:
    memory = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else experiment.memory_limit()
    mine = recipe.model_copy(update={"batch": recipe.batch // ranks.world()})
    try:
        with ranks.alone():  # memory may have run out here and nowhere else
            counted = memory_plan.counted(mine, device, kind, memory)
    except (MemoryError, RuntimeError) as error:  # it counts with weights, and these may be what is too large
        if not experiment.ran_out(error):
            raise
        return experiment.too_little_for_weights(recipe)
    held = sorted(counted.holdings._asdict().items(), key=lambda item: -item[1])
    holds = ", ".join(f"{name} {size / GIB:.2f}" for name, size in held if size)
    fits = f"a batch of {counted.fits}" if counted.fits else f"not even a batch of {memory_plan.STEP}"
    each = f" on each of {ranks.world()} ranks" if ranks.world() > 1 else ""
    return (
        f"{recipe.name} ran out of memory: batch {mine.batch}{each}, {counted.views} views at {recipe.size} px in "
        f"{kind} on {device} need {counted.peak / GIB:.2f} GiB by count ({holds}); {fits} would fit into the device's "
        f"{memory / GIB:.1f} GiB if nothing else were there; `twoview plan` says more"
    )
