"""Runs with few and with all classes a batch -> rows: what each method loses, beside what Assran et al. found.

The paper ("The Hidden Uniform Cluster Prior", ICLR 2023) finds that with few classes a batch the joint-embedding
methods drop clearly and the masked-image methods much less, and that PMSN is better than MSN after pretraining on
long-tailed data and worse on balanced data. No number of its tables could be read, so signs are what is compared.
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

UNIFORM = ("MSN", "PMSN of uniform prior")
LONG_TAILED = ("imagenet-lt", "inat18")  # datasets that are so by themselves
PAPER_IMAGES = 300 * 1_281_167  # that an encoder of the paper sees: 300 epochs of ImageNet
ENOUGH_IMAGES = 1_000_000  # ours: an encoder that saw fewer says nothing about its method

COLUMNS = [
    Column("method", "method", page=1, terminal=1),
    Column("comparison", "comparison", page=2, terminal=2),
    Column("dataset", "dataset", page=3, terminal=9),
    Column("seeds", "seeds", 0, page=4, terminal=8),
    Column("paper", "the paper's", page=5, terminal=4),
    Bounded("knn_difference", "kNN points", 2, page=6, terminal=3),
    Column("knn_verdict", "kNN verdict", page=7, terminal=5),
    Bounded("linear_difference", "linear points", 2, page=8, terminal=6),
    Column("linear_verdict", "linear verdict", page=9, terminal=7),
    Column("backbone", "backbone", page=10),
    Column("epochs", "epochs", 0, page=11),
    Column("images_seen", "images seen", 0, page=12, terminal=10),
    Column("machine", "machine"),
]


class Compared(Shown):
    """What is read of a recipe besides."""

    train_images: int = 0
    classes_per_batch: int = 0
    long_tail: LongTail = LongTail()

    @property
    def data(self) -> str:
        """What was trained on, in words."""
        images = f", {self.train_images:,} images" if self.train_images else ""
        return self.dataset + images + (f", long tail {self.long_tail.ratio:g}" if self.long_tail.ratio > 1 else "")

    @property
    def long_tailed(self) -> bool:
        return self.long_tail.ratio > 1 or self.dataset in LONG_TAILED


class Setting(NamedTuple):
    """What two runs share that differ in nothing but the seed and the classes a batch.

    prior: of MSN and PMSN, in words. options, others: the method's table and the rest of the recipe, as JSON.
    """

    method: str
    prior: str
    options: str
    others: str


Family = dict[Setting, dict[int, Seeds]]  # by setting and classes a batch: all that was trained on the same data


def imbalance_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a comparison; of runs that were not made, a row without numbers.

    Where encoders were trained with several K classes a batch: each method's accuracy with the most of them less that
    with fewer, and for a masked-image method the mean of the joint-embedding methods' such drops less its own. Where
    encoders were trained by PMSN: their accuracy less that with the uniform prior, by MSN or by PMSN, which then is MSN
    without Sinkhorn. `difference` is the mean over seeds, each seed's runs paired, in points of top-1; `low` and `high`
    bound Student's 95 % interval of that mean and are NaN for one seed, or where all seeds differ by the same.
    `verdict`: the interval has the sign that the paper found ("agrees"), the opposite ("contradicts"), or holds 0 or
    comes of fewer than three seeds ("not resolved"); empty where there is nothing to hold against each other, or no
    sign to expect.
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
    """A sentence, where the encoders have seen too few images for a verdict to mean anything."""
    seen = table["images_seen"].max()
    if not seen < ENOUGH_IMAGES:
        return ""
    return (
        f"This is too small to conclude from: an encoder here saw {seen:,.0f} images in its training, "
        f"one of the paper's {PAPER_IMAGES:,}."
    )


def verdict(claimed: Sequence[float]) -> str:
    """claimed: one difference a seed, positive where the paper is right."""
    if not claimed:
        return ""
    _, low, high = interval(claimed)
    return significance.verdict(low, high, len(claimed))


def _setting(run: Run) -> Setting:
    changing = ABOUT | {"name", "seed", "classes_per_batch", "method"}
    others = {key: value for key, value in run.recipe.items() if key not in changing}
    method = Compared.model_validate(run.recipe).method
    options = method.model_dump()
    prior = {"msn": "MSN", "pmsn": f"PMSN of {options.get('prior', 'power-law')} prior"}.get(method.name, "")
    return Setting(method.name, prior, *(json.dumps(table, sort_keys=True) for table in (options, others)))


def _few_classes(family: Family) -> Iterator[dict[str, Any]]:
    """Each method with the most classes a batch beside itself with fewer; the masked ones beside the others too."""
    *fewer, most = sorted({k for by_k in family.values() for k in by_k if k}) or [0]
    for few in fewer:
        pairs = [(setting.method, (by_k.get(most, {}), by_k.get(few, {}))) for setting, by_k in family.items()]
        joint = [pair for method, pair in pairs if method in JOINT_EMBEDDING]
        for method in METHODS:
            for pair in [pair for name, pair in pairs if name == method] or [({}, {})]:
                drops = {probe: differences(*pair, probe) for probe in PROBES}
                paper = "drops" if method in JOINT_EMBEDDING else ""
                yield _row(method, f"K = {most} less K = {few}", paper, drops, pair[0])
                if method in MASKED_IMAGE:
                    less = {probe: _less_than(joint, drops[probe], probe) for probe in PROBES}
                    yield _row(method, f"others' drop less its own, K = {few}", "drops less", less, pair[0])


def _less_than(joint: Sequence[tuple[Seeds, Seeds]], drops: Differences, probe: str) -> Differences:
    """The mean drop of the joint-embedding methods less the one given."""
    beside = [differences(every, some, probe) for every, some in joint]
    means = {seed: [others[seed] for others in beside if seed in others] for seed in drops}
    return {seed: fmean(means[seed]) - drops[seed] for seed in drops if means[seed]}


def _priors(family: Family, long_tailed: bool) -> Iterator[dict[str, Any]]:
    """Every other prior beside the uniform one, where batches hold whatever comes, or all classes."""
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
            continue  # MSN trained for itself
        for ours, theirs in product(others or ["PMSN"], uniform or ["MSN"]):
            pair = by_prior.get(ours, {}), by_prior.get(theirs, {})
            gains = {probe: differences(*pair, probe) for probe in PROBES}
            compared = f"{ours} less {theirs}" + (f", K = {k}" if k else "")
            yield _row(ANY_PRIOR, compared, "better" if long_tailed else "worse", gains, pair[0])


def _row(method: str, comparison: str, paper: str, found: dict[str, Differences], runs: Seeds) -> dict[str, Any]:
    """found: differences, by probe. runs: those of one side, of which the first tells what all of them are."""
    row: dict[str, Any] = {"method": method, "comparison": comparison, "paper": paper}
    for probe, by_seed in found.items():
        values = list(by_seed.values())
        claimed = [-value for value in values] if paper == "worse" else values
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
