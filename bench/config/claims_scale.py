"""How much of everything the suite of the papers' claims trains: on two cores, on a GPU, or quickly."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from twoview.bench.config import recipe
from twoview.bench.config.recipe import Recipe
from twoview.methods.vit import VITS

FOLDER = recipe.RECIPES / "claims"
SHORTER = 0.2  # of a quick one's trainings, as a share


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    seeds: of each recipe. trials: groups of values that each recipe with a table [search.ranges] is tuned by, the same
    number for each. images: whether the features of Wen and Li's figures are measured too. length: times the recipes'
    epochs. settings: put in place of the recipes' own, by dotted key: those of "all", and over them those of "resnet"
    or "vit".
    """

    seeds: int
    trials: int
    images: bool = True
    length: float = 1.0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def quick(self) -> Self:
        """The same in a fraction of the time: everything runs, and no claim gets a verdict."""
        return replace(self, seeds=1, trials=0, images=False, length=SHORTER * self.length)

    def of(self, one: Recipe[Any]) -> Recipe[Any]:
        """A recipe of `FOLDER` at this scale."""
        values: dict[str, Any] = {
            "epochs": max(1, round(self.length * one.epochs)),
            "search.epochs": round(self.length * one.search.epochs),
            "optim.warmup_epochs": self.length * one.optim.warmup_epochs,
        }
        backbone = "vit" if one.backbone.name in VITS else "resnet"
        for kind in ("all", backbone):
            values |= self.settings.get(kind, {})
        return recipe.with_values(one, values)


SCALES = {
    "cpu": Scale(seeds=3, trials=6),
    "gpu": Scale(
        seeds=5,
        trials=30,
        length=10,
        settings={
            "all": {"train_images": 0, "precision": "auto", "probe.train_images": 0, "probe.test_images": 0},
            "resnet": {"backbone.name": "resnet18"},
            "vit": {"backbone.name": "vit-tiny"},
        },
    ),
}


def names() -> list[str]:
    """Of the recipes, by paper."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def scale_of(one: Recipe[Any], harmless: Collection[str]) -> str:
    """The name of the scale at which a recipe of `FOLDER` is this one, but for what it searches; empty if none is.

    harmless: dotted keys that may differ.
    """
    if one.name not in names():
        return ""
    ignored = {*harmless, *one.search.ranges}

    def compared(settings: Recipe[Any]) -> dict[str, Any]:
        return {key: value for key, value in recipe.flat(settings.settings()).items() if key not in ignored}

    file, mine = recipe.load(one.name), compared(one)
    scales = {
        name: each
        for words, scale in SCALES.items()
        for name, each in ((words, scale), (f"{words}, quick", scale.quick))
    }
    return next((name for name, scale in scales.items() if compared(scale.of(file)) == mine), "")
