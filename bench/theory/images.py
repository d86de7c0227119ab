"""What colour distortion does to an encoder of images, at the size of a CPU: Wen and Li 2021, Figures 3 and 4.

Both encoders are AlexNets, also for Figure 3, whose WRN-34x5 takes hours.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import recipe, representations, training
from bench.experiment import Place
from bench.theory.claims import Claim, verdict
from loaders import datasets

STRONG, WEAK = "features-alexnet-strong", "features-alexnet-weak"
PAPER = "Wen and Li 2021 (ICML, arXiv 2105.15134), Figure {}, whose settings were not found"
LAYERS = slice(1, 5)  # conv 2 to 5


def run() -> list[Claim]:
    """Trains both recipes, a minute or two each. FileNotFoundError, with what gets it, where CIFAR-10 is not."""
    with TemporaryDirectory() as folder:
        place = Place(Path(folder) / "betons", Path(folder) / "checkpoints", datasets.data_root(None))
        return claims(*(_measured(name, place) for name in (STRONG, WEAK)))


def _measured(name: str, place: Place) -> dict[str, Any]:
    options = representations.Options()
    path = training.train(recipe.load(name), place, resume=False)
    return representations.as_result(representations.measure(path, place, options), options)


def claims(strong: dict[str, Any], weak: dict[str, Any]) -> list[Claim]:
    """Of two encoders' results, as `bench.representations.as_result` has them."""
    return [_apart(strong, weak), _sparse(strong, weak)]


def _apart(strong: dict[str, Any], weak: dict[str, Any]) -> Claim:
    apart = {
        f"{what} of {where}": [one[where][what] for one in (strong, weak)]
        for where in ("representation", "tsne")
        for what in ("silhouette", "knn")
    }
    words = ", ".join(f"{name} {a:.3g} beside {b:.3g}" for name, (a, b) in apart.items())
    return Claim(
        "Colour distortion sets the classes apart",
        PAPER.format(3),
        f"with it beside without: {words}; {_settings(strong)}. Clusters as the paper's are not testable at this size.",
        "all four larger with it",
        verdict(all(a > b for a, b in apart.values())),
        {  # of the representation, then of t-SNE
            f"silhouette, {word}": np.array([one[where]["silhouette"] for where in ("representation", "tsne")])
            for word, one in (("with", strong), ("without", weak))
        },
    )


def _sparse(strong: dict[str, Any], weak: dict[str, Any]) -> Claim:
    positive, rate, sparseness = (
        np.array([[layer[key] for layer in one["layers"]] for one in (strong, weak)], float)
        for key in ("positive", "firing_rate", "sparseness")
    )
    words = ", ".join(f"conv {n} {a:.3f} beside {b:.3f}" for n, (a, b) in enumerate(positive.T[LAYERS], 2))
    a, b = sparseness[:, LAYERS].mean(1)
    return Claim(
        "With colour distortion neurons fire more sparsely",
        PAPER.format(4),
        f"share of values above 0, with it beside without: {words}; Treves and Rolls' sparseness of channels' means, "
        f"1 where all fire alike, which decides nothing here: {a:.3f} beside {b:.3f}; {_settings(strong)}",
        "a smaller share with it in each of conv 2 to 5",
        verdict(bool((positive[0] < positive[1])[LAYERS].all())),
        {
            "x": np.arange(1.0, positive.shape[1] + 1),
            "above 0, with": positive[0],
            "above 0, without": positive[1],
            "fires for an image, with": rate[0],
            "fires for an image, without": rate[1],
            "sparseness, with": sparseness[0],
            "sparseness, without": sparseness[1],
        },
    )


def _settings(one: dict[str, Any]) -> str:
    return f"a narrow AlexNet, 5,000 images of CIFAR-10, one seed each, {one['images']:,} test images"
