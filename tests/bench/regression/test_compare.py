"""Old evidence compared with new: what is found, what raises no alarm, and what is never compared."""

import io
import json
import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap as scipys

from twoview.bench import evidence
from twoview.bench.config.recipe import load
from twoview.bench.evidence import (
    Accuracy,
    Ceilings,
    ConvertRates,
    DeviceFigures,
    Figure,
    LoaderRates,
    Probed,
    Probing,
    Run,
    Training,
    files,
)
from twoview.bench.measurement import bootstrap
from twoview.bench.measurement.bootstrap import Cost, accuracy_cost, paired_cost, unpaired_cost
from twoview.bench.measurement.environment import environment
from twoview.bench.regression.compare import Comparison, Row, compare
from twoview.bench.runtime.progress import Terminal
from twoview.cli import run

RESULTS = Path(__file__).parents[3] / "reports" / "results"
LOW = {"cpu_count": 1, "memory_gib": 1.0, "gpu": None}


def noise(rng, count, correlation=0.8, size=0.06):
    """Factors on a time, as on a shared machine: with slow stretches and a few far outliers.

    The defaults are as noisy as most of the runs in reports/results, whose steps have correlations of 0.1 to 0.8 and
    deviations of 0.04 to 0.17.
    """
    state, values = 0.0, []
    for shock in rng.normal(size=count):
        state = correlation * state + np.sqrt(1 - correlation**2) * shock
        values.append(state)
    bursts = np.where(rng.random(count) < 0.03, rng.exponential(1.0, count), 0)
    return np.exp(size * np.array(values)) + bursts


def loader_record(name="loader-x", rates=(1000.0, 1010.0, 990.0, 1005.0, 995.0), machine=None, **changes):
    fields = {"beton": "x.beton", "views": "crops", "size": 32, "views_per_image": 2, "images": 64, "threads": 2}
    return LoaderRates(
        name=name,
        environment=environment().model_copy(update=machine or {}),
        images_per_s={"twoview": list(rates)},
        first_batch_s={"twoview": 0.5},
        **fields | changes,
    )


def run_record(seed, slower=1.0, knn=80.0, mib=900.0, **recipe):
    rng = np.random.default_rng(seed + int(1e6 * slower))
    one = load("cifar10-simclr").model_copy(update={"seed": seed, **recipe})
    training = Training(
        epoch_seconds=list(9 * slower * noise(rng, 6, 0.2, 0.01)),
        wait_seconds=[0.1] * 6,
        views_per_epoch=10_000,
        losses=[1.0],
        precision="fp32",
        device="cpu",
        loader_threads=1,
        model_threads=2,
        peak_host_mib=mib,
        step_seconds=list(0.1 * slower * noise(rng, 480)),
    )
    return Run(
        name=f"cifar10-simclr-seed{seed}",
        subject="trained",
        recipe=one.model_dump(mode="json"),
        seed=seed,
        accuracy=Accuracy(knn_top1=knn + seed, linear_top1=knn + 2 + seed, train_images=10_000, test_images=5_000),
        training=training,
        ceilings=Ceilings(loader_views_per_s=[5000.0, 5100.0, 4900.0], model_views_per_s=[900.0, 910.0, 890.0]),
    )


@pytest.fixture
def sides(tmp_path, monkeypatch):
    """A function: old records, new records -> their two folders, and the folder of both."""
    monkeypatch.setattr(files, "CALIBRATION_ROUNDS", 0)  # no calibration on this machine

    def write(*two):
        for name, records in zip(("old", "new"), two, strict=True):
            for record in records:
                evidence.write(record, tmp_path / name)
        return str(tmp_path / "old"), str(tmp_path / "new"), tmp_path

    return write


def verdicts(found):
    return {row.metric: row.verdict for row in found.rows}


def test_the_interval_matches_scipys(monkeypatch):
    """For independent samples, without the correction for small samples."""
    old, new = (np.random.default_rng(seed).lognormal(0, 0.1, 20) for seed in (1, 2))
    ours = np.log(unpaired_cost([old], [new]))
    theirs = scipys(
        (np.log(old), np.log(new)),
        lambda a, b, axis=-1: bootstrap.middle(b) - bootstrap.middle(a),
        n_resamples=5000,
        method="percentile",
        rng=0,
    ).confidence_interval
    for our, their in zip(ours[1:] - ours[0], np.array(theirs) - ours[0], strict=True):
        assert our / np.sqrt(20 / 19) == pytest.approx(their, rel=0.1)


def test_a_verdict_needs_the_whole_interval():
    assert Cost(1.2, 1.06, 1.3).verdict(0.05) == "worse"
    assert Cost(1.2, 1.04, 1.3).verdict(0.05) == "unclear"
    assert Cost(1.0, 0.96, 1.04).verdict(0.05) == "same"
    assert Cost(0.8, 0.7, 0.9).verdict(0.05) == "better"
    assert Cost(1.2, 1.06, 1.3).widened(Cost(1.04, 1.02, 1.06)).verdict(0.05) == "unclear", (
        "the machine was slower, too"
    )
    assert Cost(1.2, 1.06, 1.3).widened(Cost(1.04, 0.99, 1.09)) == Cost(1.2, 1.06, 1.3)


def test_one_sample_has_no_interval():
    assert unpaired_cost([[1.0]], [[2.0, 2.1]]) is None
    assert unpaired_cost([[1.0], [1.1]], [[2.0], [2.1]]).ratio == pytest.approx(np.sqrt(2.0 * 2.1 / 1.1))


def test_an_accuracys_interval_follows_from_its_test_images():
    low, high = np.log(accuracy_cost(0.8, 5000, 0.78, 5000)[1:])
    wanted = 1.96 * np.sqrt(0.2 / 0.8 / 5000 + 0.22 / 0.78 / 5000)  # the delta method
    assert (high - low) / 2 == pytest.approx(wanted, rel=0.06)
    assert accuracy_cost(0.8, 5000, 0.5, 5000).verdict(0.02) == "worse"


def test_a_slowdown_of_10_percent_is_found_in_pairs_without_false_alarms():
    """40 and 100 sessions on a noisy machine, with slow stretches that both sides share and bursts that they do not."""

    def session(seed, slower):
        rng = np.random.default_rng(seed)
        shared = noise(rng, 120, 0.95, 0.3)
        old, new = (shared * noise(rng, 120, 0.1, 0.05) for _ in range(2))
        return paired_cost(old, slower * new).verdict(0.05)

    found = [session(seed, 1.10) for seed in range(40)]
    alarms = [session(1000 + seed, 1.0) for seed in range(100)]
    assert found.count("worse") >= 38, found
    assert alarms.count("worse") <= 5 and alarms.count("better") <= 5


def test_a_slowdown_of_10_percent_is_found_in_recorded_noise_without_false_alarms():
    """The steps of real runs, assigned to old and new in pairs and in random order.

    Runs of the ranking, and runs whose quartiles are far apart, are skipped: for minutes at a time, other processes
    used their cores.
    """
    records = [record for record in evidence.read_folder(RESULTS)[0] if isinstance(record, Run) and record.training]
    records = [record for record in records if not record.name.startswith("rank-")]
    runs = [run for run in (record.training.step_seconds for record in records) if len(run) >= 300]
    runs = [run for run in runs if np.subtract(*np.quantile(run, [0.75, 0.25])) < 0.3 * np.median(run)]
    rng = np.random.default_rng(0)

    def session(slower):
        run = runs[rng.integers(len(runs))]
        start = rng.integers(100, len(run) - 160)  # the first steps warm up
        pairs = rng.permuted(np.reshape(run[start : start + 160], (80, 2)), axis=1)
        return paired_cost(pairs[:, 0], slower * pairs[:, 1]).verdict(0.05)

    assert len(runs) > 20
    assert [session(1.10) for _ in range(40)].count("worse") >= 38
    assert [session(1.0) for _ in range(100)].count("worse") <= 5


def test_a_slowdown_of_10_percent_is_found_in_records_without_false_alarms():
    """One run per side, whose noise is correlated over tens of steps; treating samples as independent fails."""

    def two(seed, slower):
        rng = np.random.default_rng(seed)
        return 0.1 * noise(rng, 1000), 0.1 * slower * noise(rng, 1000)

    found = [unpaired_cost([old], [new]).verdict(0.05) for old, new in (two(seed, 1.10) for seed in range(40))]
    assert found.count("worse") >= 38, found
    equal = [two(1000 + seed, 1.0) for seed in range(100)]
    assert [unpaired_cost([old], [new]).verdict(0.05) for old, new in equal].count("worse") <= 5
    # Without a threshold, the share of alarms is the interval's own: one tail of 95 %.
    naive = [np.log(new / old).mean() > 1.96 * np.log(new / old).std() / np.sqrt(1000) for old, new in equal]
    assert sum(unpaired_cost([old], [new]).low > 1 for old, new in equal) <= 8 < sum(naive)


def test_regressions_are_found_over_seeds(sides):
    old, new, folder = sides(
        [run_record(seed) for seed in range(3)],
        [run_record(seed, slower=1.15, knn=75.0) for seed in range(3)],
    )
    found = compare(old, new, folder)
    assert verdicts(found) == {
        "epoch": "worse",
        "step": "worse",
        "peak host memory": "same",
        "loader alone": "same",
        "model alone": "same",
        "kNN top-1": "worse",
        "linear top-1": "worse",
    }
    step = next(row for row in found.rows if row.metric == "step")
    assert step.samples == (1200, 1200), "the first epoch's steps warm up"
    assert step.ratio == pytest.approx(1.15, rel=0.05) and step.interval[0] < step.ratio < step.interval[1]
    knn = next(row for row in found.rows if row.metric == "kNN top-1")
    assert knn.interval[1] < 1 / 1.02 and (knn.old, knn.new) == (81, 76)


@pytest.mark.parametrize(("knn", "verdict"), [(71.0, "worse"), (80.0, "unclear")])
def test_a_lower_accuracy_is_found_with_a_single_seed(sides, knn, verdict):
    """The interval is for 5,000 test images: a difference of 10 points is not chance, one of one point may be."""
    found = compare(*sides([run_record(seed) for seed in range(3)], [run_record(0, knn=knn)]))
    assert verdicts(found)["kNN top-1"] == verdicts(found)["linear top-1"] == verdict


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("old", "new", "verdict"), [(80.0, 0.0, "worse"), (0.0, 80.0, "better"), (0.0, 0.0, "same")])
def test_an_accuracy_of_0_is_compared(sides, seeds, old, new, verdict):
    def records(knn):
        accuracy = {"knn_top1": knn, "linear_top1": 50.0, "train_images": 9, "test_images": 5000}
        made = [run_record(seed) for seed in range(seeds)]
        return [record.model_copy(update={"accuracy": Accuracy(**accuracy)}) for record in made]

    assert verdicts(compare(*sides(records(old), records(new))))["kNN top-1"] == verdict


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -1.0, 100.1])
def test_impossible_accuracies_are_refused(strange):
    with pytest.raises(ValueError, match="knn_top1"):
        Accuracy(knn_top1=strange, linear_top1=50.0, train_images=9, test_images=5000)
    with pytest.raises(ValueError, match="test_images"):
        Accuracy(knn_top1=50.0, linear_top1=50.0, train_images=9, test_images=0)


def test_a_lower_rate_is_a_regression_and_one_sample_is_unclear(sides):
    slow = loader_record(rates=(800.0, 810.0, 805.0, 795.0))
    found = compare(*sides([loader_record()], [slow]))
    assert verdicts(found) == {"rate": "worse", "first batch": "unclear"}
    rate, first = found.rows
    assert rate.ratio == pytest.approx(0.8, rel=0.02) and rate.interval[1] < 0.85 and first.interval is None


def test_other_machines_and_other_settings_are_named_and_not_compared(sides):
    convert = ConvertRates(name="convert-x", dataset="x", images=8, threads=2, images_per_s={"twoview": [5.0, 6.0]})
    old = [loader_record("same"), loader_record("far"), loader_record("wide"), loader_record("gone"), convert]
    new = [
        loader_record("same"),
        loader_record("far", machine=LOW),
        loader_record("wide", threads=4),
        convert.model_copy(update={"images": 16}),
    ]
    found = compare(*sides(old, new))
    assert {row.work for row in found.rows} == {"same"}
    text = "\n".join(found.left_out)
    assert re.search(r"wide is not compared because the new record of .* has other settings: threads must be 2", text)
    assert re.search(r"images must be 8 as in the old record of [\d: -]+, got 16", text)
    assert "far was measured on CPU" in text and "which are not compared" in text
    assert "gone on " in text and "exists on the old side only" in text


def test_seeds_of_another_recipe_are_not_compared(sides):
    with pytest.raises(
        ValueError,
        match=r"cifar10-simclr is not compared because the new .*: batch must be \d+ as in .*, got 32",
    ):
        compare(*sides([run_record(0)], [run_record(0, batch=32)]))


def test_probes_are_compared_across_encoders_but_not_across_settings(sides):
    def record(name, top1, **asked):
        found = Probed(
            top1=top1, top5=None, per_class=[], interval=(top1, top1), train_images=9, test_images=5000, seconds=1.0,
            peak_host_mib=900.0,
        )  # fmt: skip
        asked = {"encoder": "of old", "k": 20} | asked
        about = {"encoder": "e", "encoder_hash": asked["encoder"], "dataset": "d", "size": 32, "probe": "knn"}
        return Probing(name=name, probed=found, asked=asked, **about)

    old = [record("same", 80.0), record("other", 80.0)]
    found = compare(*sides(old, [record("same", 60.0, encoder="of new"), record("other", 60.0, k=200)]))
    assert [(row.work, row.metric) for row in found.regressions] == [("same", "top-1")]
    [sentence] = found.left_out
    assert sentence.startswith("other is not compared because the new record of ") and sentence.endswith(", got 200")


def test_the_quantity_decides_whether_more_is_better(sides):
    def record(factor):
        figures = [
            Figure(work="w", quantity="step_rate", samples=[factor * s for s in (100.0, 101.0, 99.0)]),
            Figure(work="w", quantity="step_time", samples=[factor * s for s in (10.0, 10.1, 9.9)]),
            Figure(work="w", quantity="elapsed_time", samples=[1.0, 2.0]),
        ]
        return DeviceFigures(name="gpu-x", device="cuda", figures=figures)

    assert verdicts(compare(*sides([record(1.0)], [record(1.2)]))) == {
        "w: step rate": "better",
        "w: step time": "worse",
    }


def test_a_slower_machine_widens_the_interval(sides, monkeypatch):
    """By the calibration in the records: a slower machine does not mean slower code."""
    slow = loader_record(rates=(800.0, 810.0, 805.0, 795.0))
    old, new, folder = sides([loader_record()], [slow])
    for side, seconds in ((old, [0.010, 0.0101, 0.0099]), (new, [0.013, 0.0131, 0.0129])):
        path = evidence.path_of(folder / side, "loader-x")
        content = json.loads(path.read_text()) | {"calibration_seconds": seconds}
        path.write_text(json.dumps(content | {"sha256": evidence.checksum(content)}))
    assert verdicts(compare(old, new, folder))["rate"] == "unclear"


def test_the_command_compares_folders_and_files(sides, capsys, monkeypatch):
    elsewhere = {"commit": 40 * "0", "dirty": False}
    slow = loader_record(rates=(800.0, 810.0, 805.0, 795.0), machine=elsewhere)
    old, new, folder = sides([loader_record()], [slow])
    page = folder / "comparison.md"
    assert run(["compare", old, new, "--json", "--markdown", str(page)]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["regressed"] and result["rows"][0]["verdict"] == "worse" and result["rows"][0]["interval"][1] < 0.9
    lines = page.read_text().splitlines()
    assert lines[0] == "**2 metrics: 1 regressed, 0 better, 1 unclear**"
    assert lines[4].startswith("| loader-x | rate, images/s |")
    assert run(["compare", old, old]) == 0
    assert "0 regressed" in capsys.readouterr().out
    one = f"{old}/loader-x.json"
    assert run(["compare", one, f"{new}/loader-x.json", "--threshold", "0.5"]) == 0
    capsys.readouterr()
    for words, sentence in {
        (old, "no-such-thing"): "no-such-thing must be an existing file, folder or commit",
        (old, new, "--threshold", "0"): "--threshold must be above 0, got 0",
        (old, "HEAD", "--evidence-dir", new): f"there is no record of HEAD in {new}",
    }.items():
        assert run(["compare", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_evidence_of_commits_is_compared(sides, capsys):
    head, before = (
        subprocess.run(["git", "rev-parse", name], capture_output=True, text=True).stdout.strip()
        for name in ("HEAD", "HEAD~1")
    )
    if not re.fullmatch("[0-9a-f]{40}", before):
        pytest.skip("this checkout has no commit before its last")
    clean = {"dirty": False}
    records = [loader_record(machine={"commit": before} | clean)]
    newer = [
        loader_record(machine={"commit": head} | clean, rates=(1300.0, 1310.0, 1290.0)),
        loader_record("changed", machine={"commit": head, "dirty": True}),
    ]
    _, _, folder = sides(records, newer)
    assert run(["compare", "HEAD~1", "HEAD", "--evidence-dir", str(folder)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 better" in said and "changed was measured at HEAD with uncommitted changes" in said


def test_an_old_zero_has_no_ratio():
    row = Row("x", "memory added", "MiB", "less", 0.0, 3.0, None, 0.05)
    assert row.ratio is None and row.cells()[4] == "" and row.verdict == "unclear"


def test_a_strange_record_is_named_and_not_compared(sides):
    """Half a recipe; no contestant of ours; figures of 0 and NaN, which have no ratio."""
    strange = run_record(0)
    strange = strange.model_copy(update={"name": "strange", "recipe": {"name": "x", "method": "simclr"}})
    samples = {"step_time": [0.0, 1.0], "knn_time": [math.nan], "epoch_time": [3.0, 3.1, 3.2]}
    figures = [Figure(work="w", quantity=quantity, samples=some) for quantity, some in samples.items()]
    others = [
        loader_record().model_copy(update={"name": "others", "images_per_s": {"ffcv": [1.0]}, "first_batch_s": {}}),
        DeviceFigures(name="gpu-x", device="cuda", figures=figures),
    ]
    found = compare(*sides([loader_record(), strange, *others], [loader_record(), *others]))
    assert {row.work for row in found.rows} == {"loader-x", "gpu-x"}
    assert [row.metric for row in found.rows if row.work == "gpu-x"] == ["w: epoch time"]
    assert any(sentence.startswith("strange.json cannot be compared: ") for sentence in found.left_out)


def test_text_from_records_is_escaped_on_the_terminal_and_in_markdown():
    words = "\x1b]0;t\x07[bold]![p](http://evil.example) @all | <b>"
    row = Row(words, words, words, "less", 1.0, 3.0, None, 0.05)
    found = Comparison([row], left_out=[words], notes=[words])
    terminal = Terminal(file=io.StringIO(), width=400)
    found.show(terminal)
    shown = terminal.file.getvalue()
    assert shown.replace("\n", "").isprintable() and shown.count("[bold]![p](http://evil.example) @all") == 5
    text = found.markdown()
    assert text.count(r"\[bold\]!\[p\](http\://evil.example) @<!-- -->all \| &lt;b&gt;") == 5
    assert "\x1b" not in text and len({line.count(" | ") for line in text.splitlines() if line.startswith("| ")}) == 1
