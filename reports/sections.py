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
    """A part of a section. The page shows its non-empty fields in the order of this list.

    heading: the heading of this part. findings: sentences that are set off from the text. text, note: a paragraph, and
    one in small gray print. legend: how to read the tables, collapsed at first. tables: pairs of caption and table.
    plots: the plots. folded: if given, the whole part is collapsed under this line.
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
    """A section of the page. id: its anchor. A section without parts is omitted."""

    id: str
    heading: str
    parts: Sequence[Part]


def _over_seeds(report: Report) -> Section:
    """Return the section with the accuracies of each experiment over seeds, with plots."""
    legend = Markup("""\
kNN and linear probe: top-1 in percent, mean ± sample standard deviation over seeds, with Student's 95 % confidence
interval (CI) of the mean. Speed and memory are medians over seeds.
Gain over untrained: points of top-1 above the untrained encoder with the same seed; the smallest gain is the worst
seed's.
p vs. best kNN: the two-sided p of Welch's t-test over seeds against the best recipe for the dataset on the machine, not
corrected for the number of rows. p vs. fastest to target: the same for the time to target, against the fastest recipe.
kNN settings: k neighbors vote, each weighted by exp(cosine / temperature). At k = 10 they are unweighted. Code bases
differ in these settings, so a published kNN accuracy is shown with its own settings.
Published: what a paper reports for the same recipe, and whether our mean lies within the paper's spread over runs.
{targets}. By MLPerf's rule the time is the mean over seeds, at least three, without the fastest and the slowest.
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
The accuracy of each recipe, and its training time on this machine. Training time and views/s cover the whole run
without the evaluation after it; they are medians over seeds. kNN is top-1 in percent, mean ± sample standard deviation
over seeds. Gains over raw pixels, and over the same seed's untrained encoder, are differences in kNN top-1: mean over
seeds, with Student's 95 % interval in parentheses. A recipe is the most accurate for its time if no recipe with the
same (within 5 %) or a shorter training time is more accurate; a dash marks recipes that learn from labels, which are
not compared.""")
    table = report.tables["accuracy-per-second"]
    part = Part(legend=legend, tables=table.by_machine())
    return Section("accuracy-per-second", table.title, [part] if part.tables else [])


def _imbalance(report: Report) -> Section:
    """Return the section with the comparisons with few classes per batch."""
    legend = Markup("""\
K is the number of classes in every batch; the number of images and of steps is the same for each K. A difference is in
points of top-1: the mean over seeds, with the runs of each seed paired, and with Student's 95 % interval in parentheses
if there are at least two seeds. A dash means not measured. The paper is Assran et al., The Hidden Uniform Cluster
Prior, ICLR 2023; the numbers in its tables were not available, so only the sign of its finding is compared. Verdict:
"agrees" if the interval lies on the side of 0 that the paper found, "contradicts" if it lies on the other side, and
"not resolved" if it contains 0, or comes from fewer than three seeds or from equal differences. The others' drop is the
mean of the drops of SimCLR, VICReg and MSN. In the plots, a filled marker means that the interval does not contain
0.""")
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
    """Return the section that compares recipes with their base recipe, one table for each base and machine."""
    legend = Markup("""\
Each table has a base recipe and the recipes that are based on it. They change the listed settings and possibly the
number of epochs. kNN and linear probe: top-1 in percent, mean ± sample standard deviation over seeds. A difference is
the accuracy minus the base's accuracy, in points: the mean over seeds, with the runs of each seed paired, and with
Student's 95 % interval in parentheses. Verdict: "better" if the interval lies above 0, "worse" if it lies below, and
"not resolved" if it contains 0 or comes from fewer than three seeds. Training time and views/s are the fastest seed's,
since other work on the machine can only slow a run down.""")
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
two ceilings: the rate of the loader alone, and the rate of the model alone on a batch in device memory. Time waiting
for data is a share of the training time. The epoch time is the median over epochs, and IQR is the interquartile range
over epochs. Accuracies have the 95 % bootstrap interval over test images in parentheses. A dash means not measured.""")
    of_reconstructions = Markup("""\
From top to bottom: images of the test split, the patches that the encoder saw, and the decoder's reconstruction, in
which the visible patches are the originals. If the decoder predicts normalized pixels, the mean and contrast of each
hidden patch are restored.""")
    tables = report.tables["leaderboard"].by_machine()
    parts = [Part(legend=legend, tables=tables)]
    if losses := loss_plots(select(Run, report.records)):
        parts.append(Part(folded="The loss over steps", plots=losses))
    if report.images:
        parts.append(
            Part("Reconstructions", note=of_reconstructions, template="figures.html.j2", content=report.images),
        )
    return Section("runs", "All runs", parts if tables else [])


def _training(report: Report) -> Section:
    """Return the section with plots of time, rate and memory."""
    runs, devices = select(Run, report.records), select(DeviceFigures, report.records)
    plots = training_plots(runs, report.tables["summary"].frame, devices)
    return Section("plots", "Time, rate and memory", [Part(plots=plots)] if plots else [])


def _probes(report: Report) -> Section:
    """Return the section with the results of probes, and their cost."""
    legend = Markup("""\
Results of <code>twoview probe</code>, for any encoder on any dataset: top-1 with its 95 % bootstrap interval over test
images. For low-shot probes top-1 is the mean over splits, with the standard deviation (SD) over splits. The time
includes extracting the features, which several probes share. Published hours and memory come from a paper, for its own
encoder, dataset and hardware. A dash means not stated or not applicable.""")
    of_costs = Markup("""\
All libraries get the same random features and the same number of threads. They take turns, with each round in a process
of its own. Time is measured from the features to the accuracy, and memory is the peak beyond the features: medians over
rounds. Peer time / twoview time is the median of the ratios of paired rounds, with their range; above 1 twoview is
faster. The top-1 difference is our accuracy minus the peer's.""")
    parts = [
        Part(legend=legend, tables=report.tables["probes"].by_machine()),
        Part("Cost compared with other libraries", legend=of_costs, tables=report.tables["probe-costs"].by_machine()),
    ]
    return Section("probes", "Probes", [part for part in parts if part.tables])


def _claims(report: Report) -> Section:
    """Return the section with the papers' claims and their verdicts."""
    legend = Markup("""\
The four papers' claims about signs and orderings of accuracies, and a test of each claim: on runs of the paper's own
recipes with unchanged settings, or on smaller versions of them (scale: reduced). The measured effect is in points of
top-1, or a rank correlation, with its 95 % interval. Verdict: "holds" if the interval lies on the claim's side of 0,
"fails" if it lies on the other side, and "not resolved" if it contains 0, or comes from fewer than three seeds or from
equal values. A true effect below the smallest effect detectable with 80 % power is likely to be missed.""")
    table = report.tables["claims"]
    part = Part(text=tally(table.frame), legend=legend, tables=[("The four papers", table)])
    return Section("claims", table.title, [part])


def _theory(report: Report) -> Section:
    """Return the section with the claims of the theory papers, with plots in the table."""
    note = Markup("""\
Results of <code>twoview suite theory</code>. A verdict follows the rule under "expected"; thresholds that we chose are
marked as ours, and some were set after first trials. A source states how reliably we know the paper's claim: found,
secondary (quoted by others), inferred or recalled. All grids of a claim share the color scale below them.""")
    table = report.tables["theory"]
    caption = "; ".join(table.frame["machine"].unique())
    plots = theory_plots(select(Theory, report.records))
    part = Part(note=note, template="theory.html.j2", tables=[(caption, table)], content=plots)
    return Section("theory", "Claims of the theory papers", [part] if plots else [])


def _loader(report: Report) -> Section:
    """Return the section with the requirements for the loader, and the rates of the loader and its peers."""
    note = Markup("""\
The requirements for the loader and for the writer of .beton files, with the latest measurement. A ratio is our figure
divided by the named loader's; rates are medians over rounds.""")
    legend = Markup("""\
Images/s counts source images, and views/s their views (augmented crops): median over rounds, with the interquartile
range (IQR). All loaders take turns on the same work with the same number of threads. Twoview speedup is our rate
divided by the rate of the loader in the row: the median over rounds of the ratio. The plots show the latest measurement
of each workload.""")
    table, required = report.tables["loader"], report.tables["required"].by_machine()
    rates = Part(text="The loader has not been measured.")
    if tables := table.by_machine():
        plots = loader_plots(select(LoaderRates, report.records), table.frame)
        rates = Part(legend=legend, tables=tables, plots=plots)
    return Section("loader", table.title, [Part(note=note, tables=required), rates] if required else [rates])


def _gpu(report: Report) -> Section:
    """Return the section with the measurements on one device."""
    legend = Markup("""\
Results of <code>twoview suite gpu</code>, most valuable first, and the training steps of <code>twoview measure
peers</code>: medians and quartiles of the samples. Targets are for one H100, and whether a target is met is shown only
for that card; for a check the target is its tolerance. The note of a projection gives the step that it is based on and
the cost that its source reports. Published figures were measured on other hardware. A dash means not measured, not
reached or not stated.""")
    part = Part(legend=legend, tables=report.tables["gpu"].by_machine())
    return Section("gpu", "Steps on one device", [part] if part.tables else [])


def _budgets(report: Report) -> Section:
    """Return the section with the papers' costs and our measurements."""
    legend = Markup("""\
The published cost of pretraining, a linear evaluation or a kNN evaluation, and the cost of the same work here. Our
hours are the number of steps times the median time of the measured steps after the warm-up (at least 30), with the 95 %
interval of that median. For "the model alone", on a batch in device memory, they include no wait for data. Steps with
another batch, size or backbone are not compared. The ratio to published is a ratio of GPU-hours; on a CPU it is our
hours divided by the published GPU-hours. A dash means not measured.""")
    table = report.tables["budget"]
    ours = table.frame["recipe"].notna()
    done = Part(legend=legend, tables=[("Budgets with a twoview recipe", table.where(ours))])
    others = Part(tables=[("No recipe yet", table.where(~ours))], folded="Budgets without a twoview recipe")
    return Section("budgets", table.title, [done, others])


def _method(report: Report) -> Section:
    """Return the section with the records' environments and recipes."""
    content = {
        "environments": _environments(report.records),
        "runs": [_details(run) for run in sorted(select(Run, report.records), key=lambda run: run.name)],
    }
    return Section("method", "How it was measured", [Part(template="method.html.j2", content=content)])


def _environments(records: Sequence[AnyRecord]) -> list[dict[str, Any]]:
    """Return each distinct environment (machine, system and packages), with the commits that were measured in it."""
    commits: dict[str, set[str]] = {}
    environments = {record.environment.hash: record.environment for record in records}
    for record in records:
        commits.setdefault(record.environment.hash, set()).add(commit_of(record.environment) or "no checkout")
    return [
        {"hash": hash_, "environment": environments[hash_], "commits": sorted(commits[hash_])}
        for hash_ in sorted(environments)
    ]


def _details(run: Run) -> dict[str, Any]:
    """Return the details of a run that the page shows."""
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
