"""Published results and claims: `reports/papers/*.toml`, one file per paper or code base, validated by one schema.

A table in a file has the keys that all its rows share, and each row has its own keys. A number that could not be read
is missing, and its cell says so. A claim about a sign or an ordering, without a number, is listed with the statistical
test that checks it.
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
FEWEST = 4  # minimum number of runs for a rank correlation: with three, no order has a p below 0.05

# Where a number comes from. paper: read in the paper. secondary: from another text about the paper. code: from the
# README, docs or logs of a code base. inferred: read off a chart or deduced; the note says how.
Provenance = Literal["paper", "secondary", "code", "inferred"]
# What a number measures. top1, top5: a classifier that the source does not describe further. online: a classifier that
# is trained along with the encoder. knn10: the 10 nearest neighbors by cosine, unweighted, as in our probe knn-10. knn:
# kNN with other settings.
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
    """A part of a paper's file. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(Part):
    """One published cell, or a cell that a paper should have but that could not be read.

    paper, table, row: its location.
    metric, value, spread: the metric, its value in percent, and its deviation over runs. A row without a metric is
    about costs only.
    knn: the settings of a kNN accuracy, as far as the source states them: neighbors, weights and epoch.
    work: the workload. epochs, batch: the workload's epochs and batch size.
    gpus, hardware: number and kind of the GPUs. hours: wall time. memory_gb: peak memory on each GPU, in the source's
    own GB.
    recipe: our recipe for the same workload.
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
        """The value as a table shows it, with its spread if there is one."""
        if self.value is None:
            return ABSENT
        return f"{self.value:g}" if self.spread is None else f"{self.value:g} ± {self.spread:g}"

    @property
    def is_budget(self) -> bool:
        """Whether the row states the workload's cost: hours or memory."""
        return self.metric is None or self.hours is not None or self.memory_gb is not None

    @property
    def gpu_hours(self) -> float | None:
        """The hours of all GPUs together; None if the source does not state both numbers."""
        return self.gpus * self.hours if self.gpus and self.hours else None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """Raise ValueError unless a value has a metric, a spread has a value, and a kNN accuracy has its settings."""
        if self.metric is None and (self.value or self.spread):
            raise ValueError("a row with a value or a spread must have a metric")
        if self.value is None and self.spread is not None:
            raise ValueError("a row with a spread must have a value")
        if bool(self.knn) != str(self.metric).startswith("knn"):
            raise ValueError("the key knn must be given for a kNN accuracy, and only there")
        return self


class Check(Part):
    """How a claim about a sign or an ordering is tested on runs.

    statistic: the test in words.
    contrast: recipe -> weight. The claim is that the weighted sum of the recipes' accuracies is above 0, tested over
    the seeds that all recipes have. two_sided: the claim is that the sum is not 0.
    correlation, against: recipes, and the name of a logged quantity. The claim is that over all runs of the recipes the
    accuracy falls as the quantity rises.
    theory: the name of a claim that `twoview suite theory` measures. The claim is that its effect, the mean over seeds,
    is above 0.
    A check without any of these needs a measurement that no record holds yet.
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
        """Raise ValueError unless the check is of one kind and has everything that this kind needs."""
        if sum(map(bool, (self.contrast, self.correlation, self.theory))) > 1:
            raise ValueError("a check must have at most one of contrast, correlation and theory")
        if bool(self.correlation) != bool(self.against):
            raise ValueError("a check must have both correlation and against, a logged quantity, or neither")
        if (self.contrast or self.correlation) and self.metric not in ("linear_top1", "knn_top1"):
            raise ValueError(f"the metric of a check must be linear_top1 or knn_top1, got {self.metric}")
        return self


class Claim(Check):
    """A claim of a paper about a sign or an ordering, checked on runs of the paper's own recipes.

    claim: the claim in words. value: the published size of the contrast, if any.
    reduced: checks of the same claim on smaller recipes, each with its own statistic.
    """

    paper: str
    claim: str
    value: float | None = None
    provenance: Provenance
    reduced: tuple[Check, ...] = ()


class Paper(Part):
    """The content of one file: a paper or a code base."""

    key: str  # the file's name without `.toml`
    title: str
    address: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]


class Verdict(NamedTuple):
    """The result of checking a claim.

    size: the contrast in points, divided by the sum of its positive weights; or the rank correlation.
    low, high: bounds of its 95 % interval, NaN if there is none.
    statistic, p: the test's statistic and p value; None if there are too few seeds or runs for a test.
    of: number of seeds or runs.
    resolvable: the smallest size whose interval would lie on one side of 0 in 80 % of repetitions; NaN if there is no
    interval.
    """

    size: float
    low: float
    high: float
    statistic: float | None
    p: float | None
    of: int
    resolvable: float


def load(folder: Path = FOLDER) -> list[Paper]:
    """Return all papers, sorted by file name. Raises ValueError, naming the file and the key, if one is invalid."""
    return [read(path) for path in sorted(folder.glob("*.toml"))]


def read(path: Path) -> Paper:
    """Read one file. Raises ValueError, naming the file and the key, if it is invalid."""
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
    """Return a table's rows, each with the keys that the table gives for all rows."""
    if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
        raise ValueError(f"{path}: tables.{number} must have a list of rows")
    shared = {"paper": path.stem} | {key: value for key, value in table.items() if key != "rows"}
    return [shared | row for row in table["rows"]]


def budgets(papers: Iterable[Paper]) -> list[Row]:
    """Return the rows that state hours or memory, starting with the rows that have one of our recipes."""
    rows = [row for paper in papers for row in paper.rows if row.is_budget]
    return sorted(rows, key=lambda row: row.recipe is None)


def check(claim: Check, runs: Iterable[Run], theories: Iterable[Theory] = ()) -> Verdict | None:
    """Check a claim on records, and return the result; None if the claim has no test, or too few runs measure it.

    runs: for each recipe and seed, the latest run with a trained encoder is used. theories: the latest record that
    measured the theory claim is used.
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
    """Test the contrast by Student's t over the seeds that all its recipes have; for two recipes this is the paired
    t.
    """
    seeds = set.intersection(*(set(by_recipe.get(name, {})) for name in claim.contrast))
    # A seed's size: the weighted sum of the recipes' accuracies, divided by the sum of the positive weights. For the
    # weights 1 and -1 it is the difference in points.
    scale = sum(weight for weight in claim.contrast.values() if weight > 0)
    sizes = [
        sum(weight * _accuracy(claim, by_recipe[name][seed]) for name, weight in claim.contrast.items()) / scale
        for seed in sorted(seeds)
    ]
    return _mean(sizes, claim.two_sided)


def _mean(sizes: Sequence[float], two_sided: bool) -> Verdict | None:
    """Test the mean of one size per seed by Student's t, one-sided above 0 unless `two_sided`; None without sizes."""
    if not sizes:
        return None
    bounds, least = interval(sizes), resolvable(sizes)
    if len(sizes) < significance.FEWEST or math.isnan(bounds[1]):
        return Verdict(*bounds, None, None, len(sizes), least)
    test = stats.ttest_1samp(sizes, 0, alternative="two-sided" if two_sided else "greater")
    return Verdict(*bounds, float(test.statistic), float(test.pvalue), len(sizes), least)


def _correlation(claim: Check, by_recipe: Mapping[str, Mapping[int, Run]]) -> Verdict | None:
    """Test Spearman's rank correlation of accuracy and the quantity logged in the last epoch, one-sided below 0.

    It is computed over all runs of the claim's recipes. Returns None without runs, or if accuracy or quantity never
    varies.
    """
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
    """Return the interval of a rank correlation by Fisher's z, with the variance of Bonett and Wright (2000).

    The bounds are NaN for a correlation of 1 or -1, whose z is infinite.
    """
    if abs(correlation) == 1:
        return math.nan, math.nan
    reach = stats.norm.ppf((1 + LEVEL) / 2) * _fisher_error(correlation, count)
    middle = math.atanh(correlation)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def _fisher_error(correlation: float, count: int) -> float:
    """Return the standard error of Fisher's z: sqrt((1 + r^2 / 2) / (n - 3)), after Bonett and Wright (2000)."""
    return math.sqrt((1 + correlation**2 / 2) / (count - 3))


def resolvable_correlation(count: int) -> float:
    """Return the smallest rank correlation whose interval by `_fisher` lies above 0 in 80 % of repetitions, at most 1.

    count: number of runs.
    """
    # The interval lies above 0 with probability POWER if z exceeds this many of its standard errors.
    quantiles = float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER))

    def above(correlation: float) -> float:
        return math.atanh(correlation) - quantiles * _fisher_error(correlation, count)

    most = 1 - 1e-12
    return float(brentq(above, 0, most)) if above(most) > 0 else 1.0


def _accuracy(claim: Check, run: Run) -> float:
    """Return a run's accuracy by the claim's metric, in percent."""
    return float(getattr(run.accuracy, str(claim.metric)))
