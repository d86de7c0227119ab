"""The effect of color distortion and labels on an image encoder: Wen and Li 2021, Figures 1 to 4, at a CPU's size.

All encoders are AlexNets, also for Figures 1 and 3, because their WRN-34x5 would take hours.
"""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from twoview.bench.config import recipe
from twoview.bench.config.experiment import Place
from twoview.bench.evaluation import representations
from twoview.bench.evaluation.representations import Representation
from twoview.bench.evidence.claims import Claim, Scatter, percent, verdict
from twoview.bench.training import train
from twoview.loaders import datasets
from twoview.loaders.samplers import spread

STRONG, WEAK, SUPERVISED = (f"features-alexnet-{kind}" for kind in ("strong", "weak", "supervised"))
PAPER = "Wen and Li 2021 (ICML, arXiv 2105.15134), Figure {}"
UNKNOWN = f"{PAPER}, whose settings were not found"
LAYERS = slice(1, 5)  # conv 2 to 5
SHOWN = 300  # points shown of a t-SNE


class Encoders(NamedTuple):
    """The representations of the same images by three encoders that were trained with one seed, and by a control.

    again: the control, which is the supervised encoder trained with the next seed.
    """

    strong: Representation
    weak: Representation
    supervised: Representation
    again: Representation


def run(seeds: int = 1) -> list[Claim]:
    """Train three recipes with `seeds` seeds each, a minute per run, and return the paper's claims with verdicts.

    The supervised recipe is trained with one seed more, as a control.
    Raises FileNotFoundError, saying how to get it, if CIFAR-10 is missing.
    """
    with TemporaryDirectory() as folder:
        place = Place(Path(folder) / "betons", Path(folder) / "checkpoints", datasets.data_root(None))
        strong, weak = ([_measured(name, place, seed) for seed in range(seeds)] for name in (STRONG, WEAK))
        supervised = [_measured(SUPERVISED, place, seed) for seed in range(seeds + 1)]
        return claims([*map(Encoders, strong, weak, supervised, supervised[1:])])


def _measured(name: str, place: Place, seed: int) -> Representation:
    """Train a recipe with this seed and return its encoder's representation of the test images."""
    path = train.train(recipe.load(name).model_copy(update={"seed": seed}), place, resume=False)
    return representations.measure(path, place, representations.Options())


def claims(seeds: Sequence[Encoders]) -> list[Claim]:
    """Return the claims about the encoders of each seed.

    The numbers in a claim's text are means over seeds; a claim holds only if it holds for every seed.
    """
    count = "one seed each" if len(seeds) == 1 else f"the mean of {len(seeds)} seeds"
    settings = f"a narrow AlexNet, 5,000 images of CIFAR-10, {count}, {len(seeds[0].strong.label):,} test images"
    return [
        _differ(seeds, settings),
        _dense(seeds, settings),
        _apart(seeds, settings),
        _sparse(seeds, settings),
    ]


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Return linear CKA (Kornblith et al. 2019): 1 if the two are equal up to rotation and scale, 0 if uncorrelated.

    one: (N, C) and other: (N, D), of the same N images.
    """
    x, y = (features.astype(np.float64) - features.mean(axis=0, dtype=np.float64) for features in (one, other))
    # |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms of centered features.
    return float(np.sum((y.T @ x) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def _differ(seeds: Sequence[Encoders], settings: str) -> Claim:
    """Return the claim of Figure 1: labels change the features more than augmentation or another seed."""
    # CKA of supervised and contrastive, with and without color distortion, and of two seeds: (seeds, layers) each.
    labels = np.array([_layers_cka(one.strong, one.supervised) for one in seeds])
    colors = np.array([_layers_cka(one.strong, one.weak) for one in seeds])
    controls = np.array([_layers_cka(one.supervised, one.again) for one in seeds])
    # Upper bounds of the labels' CKA in conv 5: its own value in conv 1, and the CKA of colors and of controls in conv
    # 5.
    last = np.minimum(np.minimum(labels[:, 0], colors[:, -1]), controls[:, -1])
    return Claim(
        "Supervised and contrastive features differ in the higher layers, more than augmentation or another seed makes "
        "them differ",
        f"{UNKNOWN.format(1)}; the figure shows images of WRN-34x5, the statistic is ours",
        f"Linear CKA of the channels' means, conv 1 to 5: {_listed(labels)} between a supervised and a contrastive "
        f"encoder, {_listed(colors)} between two contrastive ones, with and without color distortion, "
        f"{_listed(controls)} between two supervised ones of different seeds ({settings}).",
        "Between supervised and contrastive it is lower in conv 5 than in conv 1, and in conv 5 lower than between the "
        "two contrastive encoders and than between the two supervised ones.",
        verdict(bool((labels[:, -1] < last).all())),
        {
            "over layers": np.arange(1.0, labels.shape[1] + 1),
            "supervised and contrastive": labels.mean(0),
            "with and without color distortion": colors.mean(0),
            "two supervised ones": controls.mean(0),
        },
        effects=(controls - labels)[:, -1].tolist(),
    )


def _layers_cka(one: Representation, other: Representation) -> list[float]:
    """Return the linear CKA of the channels' means in each layer."""
    return [linear_cka(a.mean.numpy(), b.mean.numpy()) for a, b in zip(one.layers, other.layers, strict=True)]


def _dense(seeds: Sequence[Encoders], settings: str) -> Claim:
    """Return the claim of Figure 2, which cannot be decided, with the measurements."""
    above = np.array([[float(one.layers[-1].positive.mean()) for one in (each.strong, each.weak)] for each in seeds])
    strong, weak = above.mean(0)
    return Claim(
        "Without proper augmentation the features of images are dense",
        f"{PAPER.format(2)}, of which only the caption's reference was found",
        f"In the last layer {percent(strong)} of the values are above 0 with color distortion and "
        f"{percent(weak)} without ({settings}); what the figure shows, and so what would decide this, was not found.",
        "Unknown: the claim is tested on sparse coding, where features are known.",
        "not testable at this size",
        {"last layer above 0, with and without": above.mean(0)},
        effects=(above[:, 1] - above[:, 0]).tolist(),
    )


def _apart(seeds: Sequence[Encoders], settings: str) -> Claim:
    """Return the claim of Figure 3: classes are further apart with color distortion."""

    def both(name: str) -> np.ndarray:
        """Return a measure of representations with color distortion and without, (seeds, 2)."""
        measure = attrgetter(name)
        return np.array([[measure(each.strong), measure(each.weak)] for each in seeds])

    pairs = {
        "silhouette": both("of_representation.silhouette"),
        "silhouette of its t-SNE": both("of_picture.silhouette"),
        "kNN, in percent,": both("of_representation.knn"),
        "kNN of its t-SNE": both("of_picture.knn"),
    }
    words = ", ".join(f"{name} {a:.3g} and {b:.3g}" for name, (a, b) in ((n, p.mean(0)) for n, p in pairs.items()))
    first = seeds[0]
    return Claim(
        "Color distortion sets the classes apart",
        UNKNOWN.format(3),
        f"Of the representation with color distortion and without: {words} ({settings}). Clusters as clear as the "
        "paper's are not testable at this size.",
        "All four are larger with color distortion.",
        verdict(all((pair[:, 0] > pair[:, 1]).all() for pair in pairs.values())),
        effects=(-np.diff(pairs["silhouette of its t-SNE"])[:, 0]).tolist(),
        scatter={
            f"t-SNE, {word}": _shown(one)
            for word, one in (
                ("with color distortion", first.strong),
                ("without color distortion", first.weak),
                ("supervised", first.supervised),
            )
        },
    )


def _shown(one: Representation) -> Scatter:
    """Return an evenly chosen part of the points of a t-SNE."""
    chosen = spread(len(one.label), SHOWN)
    return Scatter(one.points[chosen, 0], one.points[chosen, 1], one.label[chosen])


def _sparse(seeds: Sequence[Encoders], settings: str) -> Claim:
    """Return the claim of Figure 4: neurons fire less often with color distortion."""
    numbers = [
        [representations.as_result(one, representations.Options())["layers"] for one in (each.strong, each.weak)]
        for each in seeds
    ]
    # With color distortion and without: (2, seeds, layers) each.
    positive, rate, sparseness = (
        np.array([[[layer[key] for layer in layers] for layers in pair] for pair in numbers], float).swapaxes(0, 1)
        for key in ("positive", "firing_rate", "sparseness")
    )
    mean = positive.mean(1)
    words = ", ".join(f"conv {n} {percent(a)} and {percent(b)}" for n, (a, b) in enumerate(mean.T[LAYERS], 2))
    a, b = sparseness[..., LAYERS].mean((1, 2))
    fewer = (positive[1] - positive[0])[:, LAYERS]
    return Claim(
        "With color distortion neurons fire more sparsely",
        UNKNOWN.format(4),
        f"Share of values above 0 with color distortion and without: {words} ({settings}). Treves and Rolls' "
        f"sparseness of the channels' means, 1 where all fire alike, decides nothing here: {a:.2f} and {b:.2f}.",
        "A smaller share with color distortion in each of conv 2 to 5.",
        verdict(bool((fewer > 0).all())),
        {
            "over layers": np.arange(1.0, positive.shape[2] + 1),
            **{
                f"{word}, {kind}": values[row].mean(0)
                for word, values in (("above 0", positive), ("fires for an image", rate), ("sparseness", sparseness))
                for row, kind in enumerate(("with", "without"))
            },
        },
        effects=fewer.mean(1).tolist(),
    )


def _listed(layers: np.ndarray) -> str:
    """Return the means over seeds as text. layers: (seeds, layers)."""
    return ", ".join(f"{number:.2f}" for number in layers.mean(0))
