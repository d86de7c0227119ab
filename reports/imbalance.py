"""Class imbalance: what each method loses with few classes per batch, compared with the findings of Assran et al.

The paper ("The Hidden Uniform Cluster Prior", ICLR 2023) finds that with few classes per batch the joint-embedding
methods lose much accuracy and the masked-image methods much less, and that PMSN is better than MSN after pretraining on
long-tailed data and worse on balanced data. The numbers in its tables were not available, so only signs are compared.
"""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from twoview.bench.config.assran2023 import ANY_PRIOR, JOINT_EMBEDDING, MASKED_IMAGE, METHODS
from twoview.bench.config.recipe import ABOUT, LongTail
from twoview.bench.evidence import Run
from twoview.reports import significance
from twoview.reports.cells import Bounded, Column
from twoview.reports.leaderboard import Shown
from twoview.reports.significance import PARTS, PROBES, Differences, Seeds, differences, interval
from twoview.reports.table import frame_of

UNIFORM = ("MSN", "PMSN of uniform prior")  # settings whose prior over the clusters is uniform
LONG_TAILED = ("imagenet-lt", "inat18")  # datasets that are naturally long-tailed
PAPER_IMAGES = 300 * 1_281_167  # number of images that an encoder of the paper sees: 300 epochs of ImageNet
ENOUGH_IMAGES = 1_000_000  # our own threshold: with fewer images, an encoder says nothing about its method

# The columns of the table; a `Bounded` column shows a difference with its interval.
COLUMNS = [
    Column("method", "method", page=1, terminal=1),
    Column("comparison", "comparison", page=2, terminal=2),
    Column("dataset", "dataset", page=3, terminal=9),
    Column("seeds", "seeds", 0, page=4, terminal=8),
    Column("paper", "paper's finding", page=5, terminal=4),
    Bounded("knn_difference", "kNN difference (points)", 2, page=6, terminal=3),
    Column("knn_verdict", "kNN verdict", page=7, terminal=5),
    Bounded("linear_difference", "linear difference (points)", 2, page=8, terminal=6),
    Column("linear_verdict", "linear verdict", page=9, terminal=7),
    Column("backbone", "backbone", page=10),
    Column("epochs", "epochs", 0, page=11),
    Column("images_seen", "images seen", 0, page=12, terminal=10),
    Column("machine", "machine"),
]


class Compared(Shown):
    """The part of a recipe that this table reads: the fields of `Shown` and the settings of class imbalance."""

    train_images: int = 0
    classes_per_batch: int = 0
    long_tail: LongTail = LongTail()

    @property
    def data(self) -> str:
        """The training data in words."""
        images = f", {self.train_images:,} images" if self.train_images else ""
        return self.dataset + images + (f", long tail {self.long_tail.ratio:g}" if self.long_tail.ratio > 1 else "")

    @property
    def long_tailed(self) -> bool:
        """Whether the training data have a long tail of classes, natural or made by the recipe."""
        return self.long_tail.ratio > 1 or self.dataset in LONG_TAILED


class Setting(NamedTuple):
    """All settings except the seed and the number of classes per batch. Runs with the same setting are compared.

    method: the method's name. prior: the prior of MSN or PMSN in words, else empty. options, others: the recipe's
    method table, and the rest of the recipe, as JSON.
    """

    method: str
    prior: str
    options: str
    others: str


# All runs on the same data: setting -> number of classes per batch (0 means no limit) -> seed -> run.
Family = dict[Setting, dict[int, Seeds]]


def imbalance_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per comparison. A comparison without runs has a row without numbers.

    If encoders were trained with different numbers K of classes per batch, each method's accuracy with a smaller K is
    subtracted from its accuracy with the largest K (its drop); for a masked-image method there is also the mean drop of
    the joint-embedding methods minus its own drop. If encoders were trained by PMSN, the accuracy with the uniform
    prior (of MSN, or of PMSN, which is then MSN without Sinkhorn) is subtracted from their accuracy.
    difference: the mean over seeds in points of top-1, with the runs of each seed paired. `low` and `high` are the
    bounds of Student's 95 % interval of that mean, NaN for one seed or if all seeds have the same difference.
    verdict: "agrees" if the interval lies on the side of 0 that the paper found, "contradicts" if it lies on the other
    side, and "not resolved" if it contains 0 or comes from fewer than three seeds; empty if there is nothing to compare
    or the paper expects no sign.
    """
    families: dict[tuple[bool, str, str], Family] = {}
    for run in sorted(runs, key=lambda run: (run.created, run.name)):
        if run.subject == "trained":
            shown = Compared.model_validate(run.recipe)
            family = families.setdefault((shown.long_tailed, shown.data, run.environment.machine), {})
            family.setdefault(_setting(run), {}).setdefault(shown.classes_per_batch, {})[run.seed] = run
    rows = [
        {"dataset": data, "machine": machine} | row
        for (long_tailed, data, machine), family in sorted(families.items())
        for row in (*_few_classes(family), *_priors(family, long_tailed))
    ]
    return frame_of(rows, COLUMNS)


def too_small(table: pd.DataFrame) -> str:
    """Return a warning if the encoders saw too few images for a meaningful verdict, else an empty text."""
    seen = table["images_seen"].max()
    if not seen < ENOUGH_IMAGES:
        return ""
    return (
        f"This is too small for any conclusion: each encoder here saw at most {seen:,.0f} images in training, and each "
        f"of the paper's {PAPER_IMAGES:,}."
    )


def verdict(claimed: Sequence[float]) -> str:
    """Return the verdict on the paper's finding; empty without differences.

    claimed: one difference per seed, with its sign chosen so that it is positive if the paper is right.
    """
    if not claimed:
        return ""
    _, low, high = interval(claimed)
    return significance.verdict(low, high, len(claimed))


def _setting(run: Run) -> Setting:
    """Return the setting of a run: its recipe without the keys that may differ between compared runs."""
    changing = ABOUT | {"name", "seed", "classes_per_batch", "method"}
    others = {key: value for key, value in run.recipe.items() if key not in changing}
    method = Compared.model_validate(run.recipe).method
    options = method.model_dump()
    prior = {"msn": "MSN", "pmsn": f"PMSN of {options.get('prior', 'power-law')} prior"}.get(method.name, "")
    return Setting(method.name, prior, *(json.dumps(table, sort_keys=True) for table in (options, others)))


def _few_classes(family: Family) -> Iterator[dict[str, Any]]:
    """Yield the comparisons of each method with the most classes per batch and with fewer.

    A masked-image method is compared with the joint-embedding methods too.
    """
    *fewer, most = sorted({k for by_k in family.values() for k in by_k if k}) or [0]
    for few in fewer:
        pairs = [(setting.method, (by_k.get(most, {}), by_k.get(few, {}))) for setting, by_k in family.items()]
        joint = [pair for method, pair in pairs if method in JOINT_EMBEDDING]
        for method in METHODS:
            for pair in [pair for name, pair in pairs if name == method] or [({}, {})]:
                drops = {probe: differences(*pair, probe) for probe in PROBES}
                paper = "drops" if method in JOINT_EMBEDDING else ""
                yield _row(method, f"K = {most} minus K = {few}", paper, drops, pair[0])
                if method in MASKED_IMAGE:
                    less = {probe: _less_than(joint, drops[probe], probe) for probe in PROBES}
                    yield _row(method, f"others' drop minus its own, K = {few}", "drops less", less, pair[0])


def _less_than(joint: Sequence[tuple[Seeds, Seeds]], drops: Differences, probe: str) -> Differences:
    """Return for each seed the mean drop of the joint-embedding methods minus the given drop.

    joint: each joint-embedding method's runs with all classes per batch and with few.
    """
    others = [differences(every, some, probe) for every, some in joint]
    means = {seed: [drop[seed] for drop in others if seed in drop] for seed in drops}
    return {seed: fmean(means[seed]) - drops[seed] for seed in drops if means[seed]}


def _priors(family: Family, long_tailed: bool) -> Iterator[dict[str, Any]]:
    """Yield the comparisons of every other prior with the uniform prior.

    Batches are drawn without regard to classes (K = 0) or with the largest K.
    """
    every_k = sorted({k for by_k in family.values() for k in by_k if k})[1:][-1:]
    groups: dict[tuple[str, int], dict[str, Seeds]] = {}
    for setting, by_k in sorted(family.items()):
        for k, seeds in by_k.items():
            if setting.prior and k in (0, *every_k):
                groups.setdefault((setting.others, k), {})[setting.prior] = seeds
    for (_, k), by_prior in sorted(groups.items()):
        uniform = [prior for prior in by_prior if prior in UNIFORM]
        others = [prior for prior in by_prior if prior not in UNIFORM]
        if not others and not (k or long_tailed):
            continue  # no comparison of priors was intended here
        for ours, theirs in product(others or ["PMSN"], uniform or ["MSN"]):
            pair = by_prior.get(ours, {}), by_prior.get(theirs, {})
            gains = {probe: differences(*pair, probe) for probe in PROBES}
            compared = f"{ours} minus {theirs}" + (f", K = {k}" if k else "")
            yield _row(ANY_PRIOR, compared, "better" if long_tailed else "worse", gains, pair[0])


def _row(method: str, comparison: str, paper: str, found: dict[str, Differences], runs: Seeds) -> dict[str, Any]:
    """Return the row of a comparison.

    paper: what the paper found. found: the differences over seeds, by probe. runs: the runs of one side; backbone,
    epochs and images seen, which all runs share, are read from the first.
    """
    row: dict[str, Any] = {"method": method, "comparison": comparison, "paper": paper}
    for probe, by_seed in found.items():
        values = list(by_seed.values())
        claimed = [-value for value in values] if paper == "worse" else values  # positive if the paper is right
        numbers = (*interval(values), verdict(claimed) if paper else "")
        row |= {f"{probe}_{part}": number for part, number in zip(PARTS, numbers, strict=True)}
    seeds = sorted(found[PROBES[0]])
    if not seeds:
        return row | {"seeds": math.nan, "backbone": "", "epochs": math.nan, "images_seen": math.nan}
    run = runs[seeds[0]]
    shown = Compared.model_validate(run.recipe)
    seen = len(run.training.losses) * shown.batch if run.training else math.nan
    return row | {
        "seeds": len(seeds),
        "backbone": shown.backbone.name,
        "epochs": shown.epochs,
        "images_seen": seen,
    }
