"""Scales of the suite of the papers' claims: its seeds, trials and epochs on two cores, on a GPU, or in a quick run."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from twoview.bench.config import recipe
from twoview.bench.config.recipe import Recipe
from twoview.methods.vit import VITS

FOLDER = recipe.RECIPES / "claims"
SHORTER = 0.2  # fraction of the epochs that a quick suite trains for


@dataclass(frozen=True)
class Scale:
    """How large the suite is.

    seeds: number of runs of each recipe, one per seed. trials: number of trials that tune each recipe with a table
    [search.ranges]. images: whether the features of Wen and Li's figures are measured too. length: factor on
    the recipes' epochs. settings: values that override the recipes' values, by dotted key: first the values under
    "all", then the values under the recipe's kind of backbone, "resnet" or "vit".
    """

    seeds: int
    trials: int
    images: bool = True
    length: float = 1.0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def quick(self) -> Self:
        """The same suite in a fraction of the time: everything runs once, too briefly for a verdict on any claim."""
        return replace(self, seeds=1, trials=0, images=False, length=SHORTER * self.length)

    def of(self, one: Recipe[Any]) -> Recipe[Any]:
        """Return a recipe of `FOLDER` at this scale."""
        values: dict[str, Any] = {
            "epochs": max(1, round(self.length * one.epochs)),
            "search.epochs": round(self.length * one.search.epochs),
            "optim.warmup_epochs": self.length * one.optim.warmup_epochs,
        }
        backbone = "vit" if one.backbone.name in VITS else "resnet"
        for kind in ("all", backbone):
            values |= self.settings.get(kind, {})
        return recipe.with_values(one, values)


# "cpu" is the scale of two cores, for which the recipes are written; "gpu" uses full datasets and larger backbones.
SCALES = {
    "cpu": Scale(seeds=3, trials=6),
    "gpu": Scale(
        seeds=3,
        trials=12,
        length=5,
        settings={
            "all": {"train_images": 0, "precision": "auto", "probe.train_images": 0, "probe.test_images": 0},
            "resnet": {"backbone.name": "resnet18"},
            "vit": {"backbone.name": "vit-tiny"},
        },
    ),
}


def every_scale() -> dict[str, Scale]:
    """Return the scales and their quick versions, by the names that a table shows."""
    quick = {f"{name}, quick": scale.quick for name, scale in SCALES.items()}
    return SCALES | quick


def names() -> list[str]:
    """Return the sorted names of the claims' recipes, which are therefore grouped by paper."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def scale_of(one: Recipe[Any], harmless: Collection[str]) -> str:
    """Return the name of the scale at which the recipe's file in `FOLDER` equals this recipe; empty if there is none.

    harmless: dotted keys that may differ. Keys that the recipe searches may differ too.
    """
    if one.name not in names():
        return ""
    ignored = {*harmless, *one.search.ranges}

    def compared(some: Recipe[Any]) -> dict[str, Any]:
        return {key: value for key, value in recipe.flat(some.settings()).items() if key not in ignored}

    file, mine = recipe.load(one.name), compared(one)
    return next((name for name, scale in every_scale().items() if compared(scale.of(file)) == mine), "")
