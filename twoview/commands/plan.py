"""The command `plan`: the memory that a training run will need."""

from typing import Literal

from tyro.conf import Positional

from twoview.bench.config import recipe as recipes
from twoview.bench.data import own
from twoview.bench.runtime.progress import console
from twoview.bench.training import memory_plan as planning
from twoview.commands.output import show
from twoview.methods.precision import Precision


def run(
    recipe: Positional[str],
    batch: int | None = None,
    accumulate: int | None = None,
    size: int | None = None,
    precision: Precision | Literal["auto"] | None = None,
    memory: float | None = None,
    json: bool = False,
) -> None:
    """Predict the peak memory of a training run on this machine, its parts, and the largest batch that fits.

    Args:
        recipe: a name from `twoview list recipes`, or a TOML file.
        batch: images per step; overrides the recipe.
        accumulate: parts in which the encoder sees a batch; overrides the recipe.
        size: side of a view in pixels; overrides the recipe.
        precision: precision of autocast; overrides the recipe.
        memory: memory in GiB; the largest batch that fits in it is also printed.
        json: print the result as JSON.
    """
    asked = {"batch": batch, "accumulate": accumulate, "size": size, "precision": precision}
    changed = {key: value for key, value in asked.items() if value is not None}
    checked = own.counted(recipes.parse(recipes.load(recipe).model_dump(mode="json") | changed, recipe))
    with console.status("counting the memory of a step"):
        predicted = planning.plan(checked, memory)
    show(predicted.as_result(), json, predicted.text)
