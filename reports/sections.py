"""The page's sections, from top to bottom: of each its heading, how to read it, its tables and figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from twoview.bench.evidence import AnyRecord, DeviceFigures, LoaderRates, Run, Theory
from twoview.reports.claims_table import tally
from twoview.reports.contents import Report, select
from twoview.reports.figures import Plot, accuracy_plots, difference_plots, loader_plots, loss_plots
from twoview.reports.imbalance import too_small
from twoview.reports.leaderboard import commit_of
from twoview.reports.sentences import stronger_pixels
from twoview.reports.significance import TARGETS_IN_WORDS
from twoview.reports.table import Table
from twoview.reports.theory import theory_plots
from twoview.reports.training_figures import training_plots


@dataclass(frozen=True)
class Part:
    """What stands together in a section, in the order of these fields; what is empty is not there.

    heading: of this part alone. findings: sentences that are set off. text, note: a paragraph, a quiet one. legend: how
    to read the tables, folded. tables: each with its caption. folded: the line under which the whole part is folded
    away. template: of a part with markup of its own, which gets the part and shows its tables, plots and content.
    """

    heading: str = ""
    findings: Sequence[str] = ()
    text: str = ""
    note: str = ""
    legend: str = ""
    tables: Sequence[tuple[str, Table]] = ()
    plots: Sequence[Plot] = ()
    folded: str = ""
    template: str = ""
    content: Any = None


@dataclass(frozen=True)
class Section:
    """id: where a link leads. A section without parts is left out."""

    id: str
    heading: str
    parts: Sequence[Part]


def _over_seeds(report: Report) -> Section:
    legend = Markup("""\
kNN and linear probe: top-1 in percent, mean ± sample standard deviation over seeds; beside it Student's 95 % interval
of the mean. Speed and memory: median over seeds.
Gain: points of kNN top-1 above the same encoder untrained, of the same seed; the least is that of the worst seed.
p, kNN: two-sided, of Welch's t over seeds against the best of the dataset on the machine, not corrected for the number
of rows.
kNN rule: how many neighbors vote, and that each is weighted by exp(cosine / temperature). kNN, k = 10: ten by cosine,
unweighted. Codes differ in this, so a published kNN stands with its own rule.
Published: what a paper reports of the same recipe, and whether our mean is within its spread.
{targets}; by MLPerf's rule the mean over at least three seeds without the fastest and the slowest; p, time: of Welch's
t against the fastest.
The plots show the mean and the range over seeds.""").format(targets=TARGETS_IN_WORDS)
    table = report.tables["summary"]
    if table.frame.empty:
        return Section("summary", "Over seeds", [Part(text="No encoder has been trained yet.")])
    findings, plots = stronger_pixels(table.frame), accuracy_plots(table.frame)
    part = Part(findings=findings, legend=legend, tables=table.by_machine(), plots=plots)
    return Section("summary", "Over seeds", [part])


def _accuracy_per_second(report: Report) -> Section:
    legend = Markup("""\
How accurate each recipe gets, and how long it trains on this machine: seconds of the whole training without its
judging, and its rate, medians over seeds. kNN: top-1 in percent, mean ± sample standard deviation over seeds. Above raw
pixels, above untrained: points of kNN top-1 more than the images themselves have, and than the same seed's untrained
encoder, mean over seeds with Student's 95 % interval in brackets. Best in its time: no other recipe that trains as long
(within 5 %) or shorter is more accurate; a dash: it learns from labels, and is not compared.""")
    table = report.tables["accuracy-per-second"]
    part = Part(legend=legend, tables=table.by_machine())
    return Section("accuracy-per-second", table.title, [part] if part.tables else [])


def _imbalance(report: Report) -> Section:
    legend = Markup("""\
K: classes in every batch, of as many images and in as many steps. Points: the mean over seeds of the difference in
top-1, each seed's runs paired, with Student's 95 % interval of it in brackets, from two seeds on; a dash: not run. The
paper's direction is that of Assran et al. (The Hidden Uniform Cluster Prior, ICLR 2023), of whose tables no number
could be read. The verdict is the interval's: it lies on the paper's side of 0 (agrees), on the other (contradicts), or
holds 0, or comes of fewer than three seeds, or of equal ones (not resolved). The others' drop: the mean of SimCLR's,
VICReg's and MSN's. In the plots a filled mark is clear of 0.""")
    table = report.tables["imbalance"]
    sentence = too_small(table.frame)
    part = Part(
        findings=[sentence] if sentence else [],
        legend=legend,
        tables=table.by_machine(),
        plots=difference_plots(table.frame),
    )
    return Section("imbalance", table.title, [part] if part.tables else [])


def _variants(report: Report) -> Section:
    legend = Markup("""\
A recipe that is based on another changes what stands under changes, and its number of epochs. kNN and linear probe:
top-1 in percent, mean ± sample standard deviation over seeds. Points: the mean over seeds of the accuracy less the
base's, each seed's runs paired, with Student's 95 % interval of it in brackets. The verdict is the interval's: it lies
above 0 (better), below (worse), or holds 0, or comes of fewer than three seeds (not resolved). Training s: seconds of a
whole training, and views/s: its rate, of the fastest seed, since other work on the machine only slows it down.""")
    table = report.tables["variants"]
    rankings = table.frame.groupby(["base", "machine"])
    tables = [(f"{base}. {machine}", replace(table, frame=rows)) for (base, machine), rows in rankings]
    part = Part(legend=legend, tables=tables)
    return Section("variants", table.title, [part] if part.tables else [])


def _runs(report: Report) -> Section:
    legend = Markup("""\
Ranked by kNN top-1 within a dataset and a machine; runs of different machines are never ranked together.
Views count every view of every image. Efficiency: the real rate over the smaller of the two ceilings, the loader alone
and the model alone on resident data. Seconds per epoch: the median epoch; views/s IQR: interquartile range over epochs.
Accuracies stand with the 95 % bootstrap interval over test images. A dash: not measured.""")
    of_pictures = Markup("""\
Images of the test split; what the encoder saw of them; what the decoder made of it, kept patches as they were.
Where normalized pixels are predicted, each hidden patch is given back its own mean and contrast.""")
    tables = report.tables["leaderboard"].by_machine()
    parts = [Part(legend=legend, tables=tables)]
    if losses := loss_plots(select(Run, report.records)):
        parts.append(Part(folded="The loss over steps", plots=losses))
    if report.pictures:
        parts.append(
            Part("Reconstructions", note=of_pictures, template="pictures.html.j2", content=report.pictures),
        )
    return Section("runs", "All runs", parts if tables else [])


def _training(report: Report) -> Section:
    runs, devices = select(Run, report.records), select(DeviceFigures, report.records)
    plots = training_plots(runs, report.tables["summary"].frame, devices)
    return Section("plots", "Time, rate and memory", [Part(plots=plots)] if plots else [])


def _probes(report: Report) -> Section:
    legend = Markup("""\
What <code>twoview probe</code> found of any encoder on any dataset: top-1 with its bootstrap interval over the test
images at 95 %; of low-shot the mean over splits, beside their standard deviation. Seconds are those of the features
too, which are extracted once for several probes. Published hours and memory are a paper's, for its own encoder, dataset
and hardware. A dash: not stated, or no such thing.""")
    of_costs = Markup("""\
The same features, made from a seed, on the same threads, each round of each side in a process of its own, in turn.
Seconds from the features to the accuracy and MiB beyond the features, medians over rounds; it / twoview: the peer's
time over ours, the median of the paired rounds and their range.""")
    parts = [
        Part(legend=legend, tables=report.tables["probes"].by_machine()),
        Part("What they cost, beside their peers", legend=of_costs, tables=report.tables["probe-costs"].by_machine()),
    ]
    return Section("probes", "Probes", [part for part in parts if part.tables])


def _claims(report: Report) -> Section:
    legend = Markup("""\
Signs and orderings that the four papers state without a number that could be read, and a test of each: on runs of the
paper's own recipes, nothing overridden, or on smaller recipes that stand for them (scale: reduced). Measured: points of
top-1, or a rank correlation, with its 95 % interval; of: how many seeds, or runs, it comes of. The verdict is the
interval's: it lies on the claim's side of 0 (holds), on the other (fails), or it contains 0, or comes of fewer than
three seeds, or of equal ones (not resolved). An effect smaller than the least one that 80 % of repetitions resolve may
be there and not be seen.""")
    table = report.tables["claims"]
    part = Part(text=tally(table.frame), legend=legend, tables=[("The four papers", table)])
    return Section("claims", table.title, [part])


def _theory(report: Report) -> Section:
    note = Markup("""\
What <code>twoview suite theory</code> measured. A verdict is by the rule under "expected"; a threshold that is ours
says so, and some were set after first trials. A source says how sure we are that the paper says so: found, secondary
(others say that it does), inferred or recalled. All shades of a claim's grids are of the scale under them.""")
    table = report.tables["theory"]
    caption = "; ".join(table.frame["machine"].unique())
    plots = theory_plots(select(Theory, report.records))
    part = Part(note=note, template="theory.html.j2", tables=[(caption, table)], content=plots)
    return Section("theory", "Claims of the theory papers", [part] if plots else [])


def _loader(report: Report) -> Section:
    note = Markup("""\
What is required of loader and writer, beside the latest measurement. Where a figure names another loader, ours is
divided by its; rates are medians over rounds; x: times, s: seconds.""")
    legend = Markup("""\
Source images a second, median over rounds with the interquartile range; a view is one augmented crop.
Contestants take turns on the same work with as many threads; twoview / it is the median of the ratios round by round.
The plots show the latest measurement of each.""")
    table, required = report.tables["loader"], report.tables["required"].by_machine()
    rates = Part(text="The loader has not been measured.")
    if tables := table.by_machine():
        plots = loader_plots(select(LoaderRates, report.records), table.frame)
        rates = Part(legend=legend, tables=tables, plots=plots)
    return Section("loader", table.title, [Part(note=note, tables=required), rates] if required else [rates])


def _gpu(report: Report) -> Section:
    legend = Markup("""\
What <code>twoview suite gpu</code> measured, most valuable first, and the step of <code>twoview peers</code>: medians
and quartiles of the samples. A target is one H100's, or the tolerance of a check, and is met or not only on such a
card. A projection names the measured step that it comes from and what its source spent. What others publish is beside
it, on their hardware. A dash: not measured, not reached or not stated.""")
    part = Part(legend=legend, tables=report.tables["gpu"].by_machine())
    return Section("gpu", "Steps on one device", [part] if part.tables else [])


def _budgets(report: Report) -> Section:
    legend = Markup("""\
What a pretraining, a linear evaluation or a kNN evaluation cost others, and what the same work comes to where its
steps were measured: so many epochs of the median steady step, with the 95 % interval of that median, from at least 30
steady steps. Where the model ran alone, on a resident batch, no time of waiting for data is in it. A step at another
batch, size or backbone is not compared. Of a processor, its own hours stand over the published GPU-hours. A dash: not
measured.""")
    table = report.tables["budget"]
    ours = table.frame["recipe"].notna()
    done = Part(legend=legend, tables=[("Done by a recipe of twoview", table.where(ours))])
    others = Part(tables=[("By no recipe yet", table.where(~ours))], folded="Budgets that no recipe of twoview repeats")
    return Section("budgets", table.title, [done, others])


def _method(report: Report) -> Section:
    content = {
        "environments": _environments(report.records),
        "runs": [_details(run) for run in sorted(select(Run, report.records), key=lambda run: run.name)],
    }
    return Section("method", "How it was measured", [Part(template="method.html.j2", content=content)])


def _environments(records: Sequence[AnyRecord]) -> list[dict[str, Any]]:
    """Each environment once, with the commits it measured."""
    commits: dict[str, set[str]] = {}
    environments = {record.environment.hash: record.environment for record in records}
    for record in records:
        commits.setdefault(record.environment.hash, set()).add(commit_of(record.environment) or "no checkout")
    return [
        {"hash": hash_, "environment": environments[hash_], "commits": sorted(commits[hash_])}
        for hash_ in sorted(environments)
    ]


def _details(run: Run) -> dict[str, Any]:
    return {
        "run": run,
        "commit": commit_of(run.environment) or "no checkout",
        "source": run.recipe.get("source", "not stated"),
        "recipe": json.dumps(run.recipe, indent=2, sort_keys=True, ensure_ascii=False),
    }


SECTIONS = (
    _over_seeds,
    _accuracy_per_second,
    _imbalance,
    _variants,
    _runs,
    _training,
    _probes,
    _claims,
    _theory,
    _loader,
    _gpu,
    _budgets,
    _method,
)
