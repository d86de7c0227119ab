"""Wen and Li's learner over grids of its settings: where it learns the features, and what its first stage follows.

Every point of a grid is a separate training run of a few seconds. The sizes and grids are the constants below.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import pandas as pd

from twoview.bench.evidence.claims import Claim, Phase, verdict
from twoview.bench.theory.augmentation import Augmentation, Kind
from twoview.bench.theory.features import FAR_FROM_ONE, NEAR_ONE, cosines, measure
from twoview.bench.theory.learner import PAPER, Learner, train
from twoview.bench.theory.moments import expected_in_span
from twoview.bench.theory.parallel import side_by_side
from twoview.loaders.sparse_coding import SparseCoding

DATA = SparseCoding(d=24, d1=192, sparsity=3 / 24)
LEARNER = Learner(m=72, batch=256, steps=500, rate=0.5, decay=0.01, tau=10.0, bias="fixed")
FIRST_STAGE = replace(LEARNER, batch=1024, bias="none")  # short enough for larger batches, nearer to the population

SIZES = (12, 24, 48)
SPARSITIES = (2 / 24, 3 / 24, 6 / 24)
KEEPS = (0.1, 0.25, 0.5, 0.75, 0.9)
CORRELATIONS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # from complementary over independent masks to one mask for both views
NOISES = tuple(DATA.variance * times for times in (0.25, 0.5, 1, 2, 4))
SETTING = f"d = {DATA.d}, d1 = {DATA.d1}, {LEARNER.m} neurons, batches of {LEARNER.batch} pairs"
QUESTION = "this project's question"

Parameter = Literal["d", "sparsity", "noise", "keep", "correlation"]
# trains at one point of a grid, and returns what it measured by name
Trial = Callable[[SparseCoding, Augmentation, Learner], Mapping[str, float]]


def to_the_end(data: SparseCoding, augmentation: Augmentation, learner: Learner) -> dict[str, float]:
    """Return the measures at the end of a training run, and its last loss."""
    *_, (_, loss, layer) = train(data, augmentation, learner)
    return asdict(measure(layer, data)) | {"loss": loss}


def first_stage(data: SparseCoding, augmentation: Augmentation, learner: Learner) -> dict[str, float]:
    """Train until the weights have grown `learner.grown` times, or the steps are over.

    Return in_span, the share of the weights' energy in span(M) at that time, and population, the same share computed
    from the population's gradient.
    """
    start = None
    for _, _, layer in train(data, augmentation, learner):
        norm = float(layer.norms.mean())
        start = start or norm
        if norm >= learner.grown * start:
            break
    in_span = float((cosines(layer, data) ** 2).sum(axis=1).mean())
    return {"in_span": in_span, "population": expected_in_span(data, augmentation, learner)}


def sweep(
    grid: Mapping[Parameter, Sequence[float]],
    trial: Trial = to_the_end,
    kind: Kind = "complementary",
    data: SparseCoding = DATA,
    learner: Learner = LEARNER,
) -> pd.DataFrame:
    """Train at every point of a grid, and return a row for each, with the point, its other settings and the findings.

    grid: values of d, of P(z_j != 0) (sparsity), of the noise level, of the masks' keep probability or, for kind
    correlated, of their correlation. With d, d1 and m keep their ratio to d, tau keeps its ratio to log(d)^2, and the
    number of active features stays the same. Features that are active half as often get twice the steps. `phase` makes
    a plot over two parameters.
    """

    def row(values: tuple[float, ...]) -> dict[str, Any]:
        point = dict(zip(grid, values, strict=True))
        d = int(point.get("d", data.d))
        at = replace(
            data,
            d=d,
            d1=data.d1 * d // data.d,
            sparsity=point.get("sparsity", min(data.active * data.d / d, 1.0)),
            noise=point.get("noise", data.noise),
        )
        augmentation = Augmentation(kind, point.get("keep", 0.5), point.get("correlation", 0.0))
        sized = replace(
            learner,
            m=max(learner.m * d // data.d, 1),
            tau=learner.tau * (math.log(d) / math.log(data.d)) ** 2,
            steps=round(learner.steps * max(data.active / at.active, 1)),
        )
        found = trial(at, augmentation, sized)
        return {"d": d, "sparsity": at.active, "noise": at.variance, **asdict(augmentation), **found}

    return pd.DataFrame(side_by_side(row, list(itertools.product(*grid.values()))))


def phase(rows: pd.DataFrame, x: str, y: str, value: str) -> Phase:
    """Return a plot of a sweep over two of its columns, x and y. value: the column that is shown."""
    words = {"noise": "noise variance", "sparsity": "P(z_j != 0)", "keep": "keep probability"}
    words |= {"correlation": "correlation of the masks"}
    table = rows.pivot(index=y, columns=x, values=value)
    return Phase(words[x], table.columns.to_numpy(), words[y], table.index.to_numpy(), table.to_numpy())


def run() -> list[Claim]:
    """Return all claims, which take about fifty training runs at the sizes above."""
    return [
        learned_at(
            "With complementary masks the features are learned at every keep probability and sparsity",
            f"{QUESTION}; the paper keeps one half (recalled)",
            sweep({"keep": KEEPS, "sparsity": SPARSITIES}),
            "keep",
        ),
        learned_at(
            "With complementary masks the features are learned under all noise up to the theorem's",
            f"{PAPER}: its variance is sqrt(log d) / d",
            sweep({"noise": NOISES, "sparsity": SPARSITIES}),
            "noise",
            DATA.variance,
        ),
        learned_in(sweep({"d": SIZES})),
        decoupled(
            sweep({"correlation": CORRELATIONS, "noise": NOISES}, first_stage, "correlated", learner=FIRST_STAGE),
            sweep({"noise": NOISES}, first_stage, "none", learner=FIRST_STAGE),
        ),
    ]


def learned_at(name: str, source: str, rows: pd.DataFrame, x: str, most: float = math.inf) -> Claim:
    """Return a claim about training runs over x and the sparsity. most: the largest x for which it is claimed."""
    claimed = rows[rows[x] <= most * (1 + 1e-9)]
    # Learned means that both measures are near 1.
    both = claimed[["coverage", "in_span"]].min(axis=1)
    learned, lowest = both > NEAR_ONE, claimed.iloc[int(both.argmin())]
    panels = {"coverage": "coverage", "share of energy in span(M)": "in_span"}
    return Claim(
        name=name,
        source=source,
        measured=f"In {learned.sum()} of {len(claimed)} runs both coverage and share of the energy in span(M) are "
        f"above {NEAR_ONE}; at worst they are {lowest.coverage:.2f} and {lowest.in_span:.2f}, where "
        f"{'the keep probability' if x == 'keep' else 'the noise variance'} is {lowest[x]:.3g} and P(z_j != 0) "
        f"{lowest.sparsity:.3g} ({SETTING}).",
        expected=f"Both above {NEAR_ONE} in every run"
        + (f" with noise variance up to {most:.3g}." if math.isfinite(most) else "."),
        verdict=verdict(bool(learned.all())),
        phase={title: phase(rows, x, "sparsity", value) for title, value in panels.items()},
    )


def learned_in(rows: pd.DataFrame) -> Claim:
    """Return the claim about training runs over d."""
    listed = "; ".join(f"d = {row.d}: {row.coverage:.2f} and {row.in_span:.2f}" for row in rows.itertuples())
    return Claim(
        name="With complementary masks the features are learned in every dimension",
        source=f"{PAPER}: asymptotic in d; that small d show it is inferred",
        measured=f"Coverage and share of the energy in span(M): {listed} (d1 = {DATA.d1 // DATA.d} d, "
        f"{LEARNER.m // DATA.d} d neurons, {DATA.active * DATA.d:g} features active, the theorem's noise variance).",
        expected=f"Both above {NEAR_ONE} at every d.",
        verdict=verdict(bool((rows[["coverage", "in_span"]] > NEAR_ONE).all(axis=None))),
        figure={
            "over d": rows.d.to_numpy(float),
            "coverage": rows.coverage.to_numpy(),
            "share of energy in span(M)": rows.in_span.to_numpy(),
        },
    )


def decoupled(masked: pd.DataFrame, unmasked: pd.DataFrame) -> Claim:
    """Return the claim about first stages.

    masked: training runs over the masks' correlation and the noise. unmasked: runs without augmentation, over the
    noise.
    """
    # The noise dominates where the population's gradient, without masks, leaves little of the energy in span(M).
    noisy = unmasked[unmasked.population < FAR_FROM_ONE].noise
    fits = {
        "complementary masks": masked[masked.correlation == -1],
        "independent masks": masked[masked.correlation == 0],
        "no augmentation": unmasked,
    }
    shares = {name: rows[rows.noise.isin(noisy)].in_span.to_numpy() for name, rows in fits.items()}
    listed = "; ".join(f"{name} {', '.join(f'{share:.2f}' for share in found)}" for name, found in shares.items())
    complementary, *others = shares.values()
    separated = bool((complementary > FAR_FROM_ONE).all() and all((other < FAR_FROM_ONE).all() for other in others))
    return Claim(
        name="Where noise dominates, the first stage follows the features with complementary masks only",
        source=f"{PAPER}; that the first stage shows it is inferred from its moments",
        measured=f"Share of the energy in span(M) when the weights have grown {FIRST_STAGE.grown:g}-fold, at noise "
        f"variance {', '.join(f'{one:.2g}' for one in noisy)}: {listed} (linear, batches of {FIRST_STAGE.batch:,}; d = "
        f"{DATA.d}, d1 = {DATA.d1}, P(z_j != 0) {DATA.active:.3g}).",
        expected=f"Above {FAR_FROM_ONE} with complementary masks and below it otherwise, at each noise variance at "
        "which, without augmentation, the population's gradient leaves less than that in span(M).",
        verdict=verdict(separated) if len(noisy) else "not testable at this size",
        phase={
            "share of energy in span(M)": phase(masked, "correlation", "noise", "in_span"),
            "the same of the population": phase(masked, "correlation", "noise", "population"),
        },
    )
