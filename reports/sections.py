"""The sections of the web page, from top to bottom: heading, explanation, tables and plots of each."""

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
    """A part of a section. The page shows its fields in the order in which they are listed, without the empty ones.

    heading: the heading of this part alone. findings: sentences that are set off from the text. text, note: a
    paragraph, and one in small gray print. legend: how to read the tables, folded away at first. tables: pairs of
    caption and table. plots: the plots. folded: if given, the whole part is folded away under this line.
    template, content: for a part with its own markup, the name of its template, which shows tables, plots and content.
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
    """A section of the page. id: the anchor that links lead to. A section without parts is left out."""

    id: str
    heading: str
    parts: Sequence[Part]


def _over_seeds(report: Report) -> Section:
    """Return the section with the accuracies of each experiment over seeds, with plots."""
    legend = Markup("""\
kNN and linear probe: top-1 in percent, mean ± sample standard deviation over seeds, with Student's 95 % confidence
interval (CI) of the mean. Speed and memory are medians over seeds.
Gain over untrained: points of top-1 above the same encoder untrained, with the same seed; the smallest gain is that of
the worst seed.
p vs. best kNN: the two-sided p of Welch's t-test over seeds against the best recipe of the dataset on the machine, not
corrected for the number of rows. p vs. fastest: the same for the time to target, against the fastest recipe.
kNN settings: k neighbors vote, each weighted by exp(cosine / temperature). At k = 10 they are unweighted. Code bases
differ in this, so a published kNN accuracy is shown with its own settings.
Published: what a paper reports for the same recipe, and whether our mean lies within the paper's spread over runs.
{targets}. By MLPerf's rule the time is the mean over at least three seeds without the fastest and the slowest.
The plots show the mean and the range over seeds.""").format(targets=TARGETS_IN_WORDS)
    table = report.tables["summary"]
    if table.frame.empty:
        return Section("summary", "Over seeds", [Part(text="No encoder has been trained yet.")])
    findings, plots = stronger_pixels(table.frame), accuracy_plots(table.frame)
    part = Part(findings=findings, legend=legend, tables=table.by_machine(), plots=plots)
    return Section("summary", "Over seeds", [part])


def _accuracy_per_second(report: Report) -> Section:
    """Return the section with accuracy against training time."""
    legend = Markup("""\
How accurate each recipe gets, and how long it trains on this machine. Training time and views/s are those of the whole
training without the evaluation after it, medians over seeds. kNN is top-1 in percent, mean ± sample standard deviation
over seeds. The points above raw pixels, and above the same seed's untrained encoder, are differences in kNN top-1: mean
over seeds, with Student's 95 % interval in brackets. A recipe is the most accurate for its time if no recipe that
trains as long (within 5 %) or shorter is more accurate; a dash marks recipes that learn from labels, which are not
compared.""")
    table = report.tables["accuracy-per-second"]
    part = Part(legend=legend, tables=table.by_machine())
    return Section("accuracy-per-second", table.title, [part] if part.tables else [])


def _imbalance(report: Report) -> Section:
    """Return the section with the comparisons with few classes per batch."""
    legend = Markup("""\
K is the number of classes in every batch; the number of images and of steps is the same for each K. A difference is in
points of top-1: the mean over seeds, the runs of each seed paired, with Student's 95 % interval in brackets from two
seeds on; a dash means that it was not run. The paper is Assran et al., The Hidden Uniform Cluster Prior, ICLR 2023; no
number in its tables could be read, so only the sign of its finding is compared. Verdict: "agrees" if the interval lies
on the side of 0 that the paper found, "contradicts" if it lies on the other side, and "not resolved" if it contains 0,
or comes from fewer than three seeds or from equal differences. The others' drop is the mean of the drops of SimCLR,
VICReg and MSN. In the plots a filled mark means that the interval does not contain 0.""")
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
    """Return the section with recipes beside the recipe that they are based on, one table for each base and machine."""
    legend = Markup("""\
Each table has a base recipe, and recipes that are based on it: they change the settings listed, and their number of
epochs. kNN and linear probe: top-1 in percent, mean ± sample standard deviation over seeds. A difference is the
accuracy minus that of the base, in points: the mean over seeds, the runs of each seed paired, with Student's 95 %
interval in brackets. Verdict: "better" if the interval lies above 0, "worse" if it lies below, and "not resolved" if it
contains 0 or comes from fewer than three seeds. Training time and views/s are those of the fastest seed, since other
work on the machine can only slow a training down.""")
    table = report.tables["variants"]
    rankings = table.frame.groupby(["base", "machine"])
    tables = [(f"{base}. {machine}", replace(table, frame=rows)) for (base, machine), rows in rankings]
    part = Part(legend=legend, tables=tables)
    return Section("variants", table.title, [part] if part.tables else [])


def _runs(report: Report) -> Section:
    """Return the section with all runs, with plots of the loss, and reconstructions."""
    legend = Markup("""\
Runs are ranked by kNN top-1 within a dataset and a machine; different machines are never ranked together.
Views/s counts every view (augmented crop) of every image. Efficiency is the training rate divided by the smaller of its
two ceilings: the rate of the loader alone, and that of the model alone on a batch in device memory. Data wait is the
share of the training time spent waiting for batches. The epoch time is that of the median epoch, and IQR the
interquartile range over epochs. Accuracies have the 95 % bootstrap interval over test images in brackets. A dash means
not measured.""")
    of_pictures = Markup("""\
From top to bottom: images of the test split, what the encoder saw of them, and the decoder's reconstruction, in which
the visible patches are the originals. If normalized pixels are predicted, each hidden patch gets its own mean and
contrast back.""")
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
    """Return the section with plots of time, rate and memory."""
    runs, devices = select(Run, report.records), select(DeviceFigures, report.records)
    plots = training_plots(runs, report.tables["summary"].frame, devices)
    return Section("plots", "Time, rate and memory", [Part(plots=plots)] if plots else [])


def _probes(report: Report) -> Section:
    """Return the section with what probes found, and what they cost."""
    legend = Markup("""\
What <code>twoview probe</code> found, for any encoder on any dataset: top-1 with its 95 % bootstrap interval over test
images. For low-shot probes it is the mean over splits, beside their standard deviation. The time includes extracting
the features, which several probes share. Published hours and memory are those of a paper, for its own encoder, dataset
and hardware. A dash means not stated or not applicable.""")
    of_costs = Markup("""\
All libraries get the same features, drawn from a fixed seed, and the same threads. They take turns, with each round in
a process of its own. Time is from the features to the accuracy, and memory is the peak beyond the features: medians
over rounds. Peer time / ours is the median of the ratios of paired rounds, with their range; above 1 twoview is faster.
The top-1 difference is our accuracy minus the peer's.""")
    parts = [
        Part(legend=legend, tables=report.tables["probes"].by_machine()),
        Part("Cost, beside other libraries", legend=of_costs, tables=report.tables["probe-costs"].by_machine()),
    ]
    return Section("probes", "Probes", [part for part in parts if part.tables])


def _claims(report: Report) -> Section:
    """Return the section with the papers' claims and their verdicts."""
    legend = Markup("""\
What the four papers claim about signs and orderings of accuracies, without a number that could be read, and a test of
each claim: on runs of the paper's own recipes with unchanged settings, or on smaller recipes that stand for them
(scale: reduced). The measured effect is in points of top-1, or a rank correlation, with its 95 % interval. Verdict:
"holds" if the interval lies on the claim's side of 0, "fails" if it lies on the other side, and "not resolved" if it
contains 0, or comes from fewer than three seeds or from equal values. An effect smaller than the smallest one found
with 80 % power may exist and not be seen.""")
    table = report.tables["claims"]
    part = Part(text=tally(table.frame), legend=legend, tables=[("The four papers", table)])
    return Section("claims", table.title, [part])


def _theory(report: Report) -> Section:
    """Return the section with the claims of the theory papers, with plots in the table."""
    note = Markup("""\
What <code>twoview suite theory</code> measured. A verdict follows the rule under "expected"; thresholds that we chose
are marked as ours, and some were set after first trials. A source says how sure we are that the paper says so: found,
secondary (others say that it does), inferred or recalled. All grids of a claim share the color scale under them.""")
    table = report.tables["theory"]
    caption = "; ".join(table.frame["machine"].unique())
    plots = theory_plots(select(Theory, report.records))
    part = Part(note=note, template="theory.html.j2", tables=[(caption, table)], content=plots)
    return Section("theory", "Claims of the theory papers", [part] if plots else [])


def _loader(report: Report) -> Section:
    """Return the section with what is required of the loader, and its rates beside its peers'."""
    note = Markup("""\
What is required of the loader and of the writer of .beton files, beside the latest measurement. A ratio is our figure
divided by that of the loader named; rates are medians over rounds.""")
    legend = Markup("""\
Images/s counts source images, and views/s their views (augmented crops): median over rounds, with the interquartile
range (IQR). All loaders take turns on the same work with the same number of threads. Twoview speedup is our rate
divided by that of the loader in the row: the median of the ratios of each round. The plots show the latest measurement
of each work.""")
    table, required = report.tables["loader"], report.tables["required"].by_machine()
    rates = Part(text="The loader has not been measured.")
    if tables := table.by_machine():
        plots = loader_plots(select(LoaderRates, report.records), table.frame)
        rates = Part(legend=legend, tables=tables, plots=plots)
    return Section("loader", table.title, [Part(note=note, tables=required), rates] if required else [rates])


def _gpu(report: Report) -> Section:
    """Return the section with what was measured on one device."""
    legend = Markup("""\
What <code>twoview suite gpu</code> measured, most valuable first, and the training steps of
<code>twoview measure peers</code>: medians and quartiles of the samples. A target is set for one H100, and whether it
is met is said only for such a card; for a check the target is its tolerance. The note of a projection names the
measured step that it comes from, and what its source spent. Published figures were measured on other hardware. A dash
means not measured, not reached or not stated.""")
    part = Part(legend=legend, tables=report.tables["gpu"].by_machine())
    return Section("gpu", "Steps on one device", [part] if part.tables else [])


def _budgets(report: Report) -> Section:
    """Return the section with what papers spent, beside what was measured."""
    legend = Markup("""\
What a pretraining, a linear evaluation or a kNN evaluation cost others, and what the same work would cost here. Our
hours are the number of steps times the median of the measured steps after the warm-up, with the 95 % interval of that
median, from at least 30 steps. For "the model alone", on a batch in device memory, they contain no wait for data. Steps
with another batch, size or backbone are not compared. The ratio to published is that of GPU-hours; on a CPU it is our
hours divided by the published GPU-hours. A dash means not measured.""")
    table = report.tables["budget"]
    ours = table.frame["recipe"].notna()
    done = Part(legend=legend, tables=[("Done by a recipe of twoview", table.where(ours))])
    others = Part(tables=[("By no recipe yet", table.where(~ours))], folded="Budgets that no recipe of twoview repeats")
    return Section("budgets", table.title, [done, others])


def _method(report: Report) -> Section:
    """Return the section with environments and recipes of the records."""
    content = {
        "environments": _environments(report.records),
        "runs": [_details(run) for run in sorted(select(Run, report.records), key=lambda run: run.name)],
    }
    return Section("method", "How it was measured", [Part(template="method.html.j2", content=content)])


def _environments(records: Sequence[AnyRecord]) -> list[dict[str, Any]]:
    """Return each environment (machine, system and packages) once, with the commits that were measured in it."""
    commits: dict[str, set[str]] = {}
    environments = {record.environment.hash: record.environment for record in records}
    for record in records:
        commits.setdefault(record.environment.hash, set()).add(commit_of(record.environment) or "no checkout")
    return [
        {"hash": hash_, "environment": environments[hash_], "commits": sorted(commits[hash_])}
        for hash_ in sorted(environments)
    ]


def _details(run: Run) -> dict[str, Any]:
    """Return what the page shows about how a run was made."""
    return {
        "run": run,
        "commit": commit_of(run.environment) or "no checkout",
        "source": run.recipe.get("source", "not stated"),
        "recipe": json.dumps(run.recipe, indent=2, sort_keys=True, ensure_ascii=False),
    }


# The sections of the page, from top to bottom.
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
