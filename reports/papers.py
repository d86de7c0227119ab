"""What others published: `reports/papers/*.toml`, one paper or code a file, checked by one schema.

A table says what all its rows share, and a row what is its own. A number that could not be read is absent, and its cell
says so. A claim without a number, a sign or an ordering, is a row too, and carries the statistic that checks it.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from scipy import stats
from scipy.optimize import brentq

from twoview.bench.evidence import Run, Theory
from twoview.reports import significance
from twoview.reports.significance import LEVEL, POWER, interval, resolvable

FOLDER = Path(__file__).parent / "papers"
ABSENT = "not published here"
FEWEST = 4  # runs of a rank correlation: of three no order has a p below 0.05

# paper: read in it. secondary: in someone's account of it. code: in the README, docs or logs of a code. inferred: read
# off a chart or concluded, and the note says how.
Provenance = Literal["paper", "secondary", "code", "inferred"]
# top1, top5: of a classifier that the source does not say more of. online: one that trains beside the encoder.
# knn10: of the 10 nearest neighbors by cosine, unweighted, as our probe knn-10; knn: by another rule.
Metric = Literal[
    "linear_top1",
    "linear_top5",
    "augmented_linear_top1",
    "online_top1",
    "online_top5",
    "top1",
    "top5",
    "knn_top1",
    "knn10_top1",
    "finetune_top1",
]


class Part(BaseModel):
    """A piece of a file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(Part):
    """One cell that others published, or did not.

    value, spread: of the metric, in percent, and the deviation over runs. Without a metric the row is of costs alone.
    knn: the rule of a kNN accuracy: neighbors, weights, and of which epoch, as far as the source states it.
    work: what was measured or spent time on. epochs, batch: of that work. gpus, hardware: how many of what. hours: of
    wall time. memory_gb: the peak on each, in the source's own GB. recipe: the one of ours that does the same.
    """

    paper: str
    table: str
    row: str
    work: Literal["pretraining", "linear", "knn"] = "pretraining"
    dataset: str | None = None
    metric: Metric | None = None
    value: PositiveFloat | None = None
    spread: NonNegativeFloat | None = None
    knn: str = ""
    epochs: PositiveInt | None = None
    batch: PositiveInt | None = None
    backbone: str | None = None
    hardware: str | None = None
    gpus: PositiveInt | None = None
    hours: PositiveFloat | None = None
    memory_gb: PositiveFloat | None = None
    provenance: Provenance
    recipe: str | None = None
    note: str = ""

    @property
    def cell(self) -> str:
        """The value as it is printed."""
        if self.value is None:
            return ABSENT
        return f"{self.value:g}" if self.spread is None else f"{self.value:g} ± {self.spread:g}"

    @property
    def is_budget(self) -> bool:
        return self.metric is None or self.hours is not None or self.memory_gb is not None

    @property
    def gpu_hours(self) -> float | None:
        return self.gpus * self.hours if self.gpus and self.hours else None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.metric is None and (self.value or self.spread):
            raise ValueError("a value needs a metric")
        if self.value is None and self.spread is not None:
            raise ValueError("a spread needs a value")
        if bool(self.knn) != str(self.metric).startswith("knn"):
            raise ValueError("a kNN accuracy, and nothing else, has its rule in the key knn")
        return self


class Check(Part):
    """How a sign or an ordering is tested on runs.

    statistic: the test in words. contrast: recipe -> weight; the claim is that the sum of the weighted accuracies is
    above 0, tested over the seeds that all recipes have (two_sided: that it is not 0). correlation, against: recipes
    over whose runs the accuracy falls where what is logged by that name rises. theory: the name of a claim that
    `twoview suite theory` measures, whose effect is above 0 on average over seeds. One with none of them needs a
    measurement that no evidence holds yet.
    """

    statistic: str
    contrast: dict[str, float] = {}
    two_sided: bool = False
    correlation: tuple[str, ...] = ()
    against: str | None = None
    theory: str | None = None
    dataset: str | None = None
    metric: Metric | None = None
    note: str = ""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(map(bool, (self.contrast, self.correlation, self.theory))) > 1:
            raise ValueError("either a contrast, a correlation or a claim of the theory")
        if bool(self.correlation) != bool(self.against):
            raise ValueError("a correlation is against something that is logged")
        if (self.contrast or self.correlation) and self.metric not in ("linear_top1", "knn_top1"):
            raise ValueError("a check needs linear_top1 or knn_top1 as its metric")
        return self


class Claim(Check):
    """A sign or an ordering that others state, checked on runs of the paper's own recipes.

    reduced: checks of the same on smaller recipes, each with a statistic of its own. value: the size of the contrast,
    as published.
    """

    paper: str
    claim: str
    value: float | None = None
    provenance: Provenance
    reduced: tuple[Check, ...] = ()


class Paper(Part):
    """One file."""

    key: str  # the file's stem
    title: str
    address: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]


class Verdict(NamedTuple):
    """A claim checked. size: of the contrast, in points over the sum of its positive weights, or the rank correlation.

    low, high: its 95 % interval, NaN where there is none. of: how many seeds, or runs. p: of the test; None, as is
    `statistic`, where there are too few to tell. resolvable: the least size whose interval would lie on one side of 0
    in 80 % of repetitions, NaN where there is no interval.
    """

    size: float
    low: float
    high: float
    statistic: float | None
    p: float | None
    of: int
    resolvable: float


def load(folder: Path = FOLDER) -> list[Paper]:
    """All papers, by key. ValueError naming the file and the key at fault."""
    return [read(path) for path in sorted(folder.glob("*.toml"))]


def read(path: Path) -> Paper:
    """One file. ValueError naming it and the key at fault."""
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    tables, claims = content.pop("tables", []), content.pop("claims", [])
    try:
        rows = [row for number, table in enumerate(tables) for row in _rows(table, path, number)]
        return Paper.model_validate(
            {
                "key": path.stem,
                **content,
                "rows": rows,
                "claims": [{"paper": path.stem, **claim} for claim in claims],
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg']}") from None


def _rows(table: Any, path: Path, number: int) -> list[dict[str, Any]]:
    """A table's rows, each with what all of them share."""
    if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
        raise ValueError(f"{path}: tables.{number}: a table has a list of rows")
    shared = {"paper": path.stem} | {key: value for key, value in table.items() if key != "rows"}
    return [shared | row for row in table["rows"]]


def budgets(papers: Iterable[Paper]) -> list[Row]:
    """The rows that say what something cost, those that a recipe of ours does first."""
    rows = [row for paper in papers for row in paper.rows if row.is_budget]
    return sorted(rows, key=lambda row: row.recipe is None)


def check(claim: Check, runs: Iterable[Run], theories: Iterable[Theory] = ()) -> Verdict | None:
    """A claim's statistic over the evidence; None without a check, or where no seed or too few runs tell anything.

    runs: trained ones are used, the last of each recipe and seed. theories: the last with the claim's name and effects
    is used.
    """
    if claim.theory:
        newest_first = sorted(theories, key=lambda record: record.created, reverse=True)
        measured = (one for record in newest_first for one in record.claims if one.name == claim.theory)
        return _mean(next((one.effects for one in measured if one.effects), []), claim.two_sided)
    by_recipe: dict[str, dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: run.created):
        if run.subject == "trained":
            by_recipe.setdefault(run.recipe["name"], {})[run.seed] = run
    if claim.contrast:
        return _contrast(claim, by_recipe)
    return _correlation(claim, by_recipe) if claim.correlation else None


def _contrast(claim: Check, by_recipe: Mapping[str, Mapping[int, Run]]) -> Verdict | None:
    """Student's t of the contrast over the seeds that all have: for two recipes the paired t."""
    seeds = set.intersection(*(set(by_recipe.get(name, {})) for name in claim.contrast))
    scale = sum(weight for weight in claim.contrast.values() if weight > 0)
    sizes = [
        sum(weight * _accuracy(claim, by_recipe[name][seed]) for name, weight in claim.contrast.items()) / scale
        for seed in sorted(seeds)
    ]
    return _mean(sizes, claim.two_sided)


def _mean(sizes: Sequence[float], two_sided: bool) -> Verdict | None:
    """Student's t of the mean over seeds; None without any."""
    if not sizes:
        return None
    bounds, least = interval(sizes), resolvable(sizes)
    if len(sizes) < significance.FEWEST or math.isnan(bounds[1]):
        return Verdict(*bounds, None, None, len(sizes), least)
    test = stats.ttest_1samp(sizes, 0, alternative="two-sided" if two_sided else "greater")
    return Verdict(*bounds, float(test.statistic), float(test.pvalue), len(sizes), least)


def _correlation(claim: Check, by_recipe: Mapping[str, Mapping[int, Run]]) -> Verdict | None:
    """Spearman's rank correlation of accuracy and what was logged in the last epoch, over all runs."""
    pairs = [
        (run.training.logged[claim.against][-1], _accuracy(claim, run))
        for name in claim.correlation
        for run in by_recipe.get(name, {}).values()
        if claim.against and run.training and run.training.logged.get(claim.against)
    ]
    if any(len(set(values)) < 2 for values in zip(*pairs, strict=True)) or not pairs:
        return None
    test = stats.spearmanr(*zip(*pairs, strict=True), alternative="less")
    size = float(test.statistic)
    if len(pairs) < FEWEST:
        return Verdict(size, math.nan, math.nan, None, None, len(pairs), math.nan)
    least = resolvable_correlation(len(pairs))
    return Verdict(size, *_fisher(size, len(pairs)), size, float(test.pvalue), len(pairs), least)


def _fisher(correlation: float, count: int) -> tuple[float, float]:
    """A rank correlation's interval by Fisher's z, with Bonett and Wright's variance (2000); NaN where perfect."""
    if abs(correlation) == 1:
        return math.nan, math.nan
    reach = stats.norm.ppf((1 + LEVEL) / 2) * _fisher_error(correlation, count)
    middle = math.atanh(correlation)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def _fisher_error(correlation: float, count: int) -> float:
    return math.sqrt((1 + correlation**2 / 2) / (count - 3))


def resolvable_correlation(count: int) -> float:
    """The least rank correlation whose interval `_fisher` lies above 0 in 80 % of repetitions; 1 where none does."""
    quantiles = float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER))

    def above(correlation: float) -> float:
        return math.atanh(correlation) - quantiles * _fisher_error(correlation, count)

    most = 1 - 1e-12
    return float(brentq(above, 0, most)) if above(most) > 0 else 1.0


def _accuracy(claim: Check, run: Run) -> float:
    return float(getattr(run.accuracy, str(claim.metric)))
