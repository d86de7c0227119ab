"""Rows of probes' results, from made-up records: on the page, in the CSV, on the terminal."""

import io
import math
from datetime import timedelta

import pandas as pd
from rich.console import Console

from twoview.bench.evidence import Probed, Probing, write
from twoview.reports.probed_table import probed_table
from twoview.reports.report import write_report
from twoview.reports.terminal import show

HOSTILE = "<b>cars</b>"
FOUND = {
    "top1": 62.5,
    "top5": 90.0,
    "per_class": [75.0, None, 50.0],
    "interval": (60.25, 64.75),
    "train_images": 1_200,
    "test_images": 400,
    "seconds": 2.5,
    "features_seconds": 10.0,
    "peak_host_mib": 900.0,
}


def record(make, probe="knn", dataset="cifar100", **found):
    """A record of a probe, dated one hour after the one before."""
    run = make.run()
    return Probing(
        name=f"probe-resnet-{dataset.strip('<b>/')}-{probe}",
        created=run.created,
        environment=run.environment,
        encoder="resnet",
        encoder_hash="0",
        dataset=dataset,
        size=32,
        probe=probe,
        probed=Probed(**FOUND | found),
        asked={},
    )


def test_a_row_has_accuracy_cost_and_the_papers_cost(make):
    (row,) = probed_table([record(make)]).to_dict("records")
    assert (row["top1"], row["top1_low"], row["top1_high"], row["top5"]) == (62.5, 60.25, 64.75, 90.0)
    assert (row["mean_class"], row["worst_class"]) == (62.5, 50.0), "a class without test images counts for nothing"
    assert row["seconds"] == 12.5 and math.isnan(row["spread"]) and math.isnan(row["peak_device_mib"])
    assert round(60 * row["published_hours"]) == 40 and row["published_memory_gb"] == 30
    assert row["provenance"].startswith("found: Lee 2025")


def test_the_latest_record_counts_and_unpublished_costs_are_empty(make):
    low_shot = record(make, "low-shot-1%", top1=40.0, spread=1.25, features_seconds=None, per_class=[])
    older = low_shot.model_copy(update={"created": low_shot.created - timedelta(hours=1)})
    older = older.model_copy(update={"probed": Probed(**FOUND | {"top1": 1.0})})
    (row,) = probed_table([low_shot, older]).to_dict("records")
    assert (row["top1"], row["spread"], row["seconds"]) == (40.0, 1.25, 2.5)
    assert math.isnan(row["published_hours"]) and row["provenance"] == "" and math.isnan(row["worst_class"])


def test_records_of_probes_alone_make_a_report(make, tmp_path):
    for one in (record(make), record(make, "low-shot-1%", top1=40.0, spread=1.25), record(make, dataset=HOSTILE)):
        write(one, tmp_path / "evidence")
    report = write_report(tmp_path / "evidence", tmp_path / "out")
    assert report.complaints == ()
    table = pd.read_csv(report.files["probes.csv"])
    assert table["probe"].tolist() == ["knn", "knn", "low-shot-1%"] and table["top1"].tolist() == [62.5, 62.5, 40.0]
    html = report.files["index.html"].read_text()
    assert 'id="probes"' in html and "60.25" in html and "1.25" in html and "0.67" in html and HOSTILE not in html
    text = io.StringIO()
    show(report, Console(file=text, width=220))
    assert "Probes on" in text.getvalue() and "low-shot-1%" in text.getvalue() and "published hours" in text.getvalue()


def test_without_records_of_probes_there_is_no_table(make, tmp_path):
    write(make.run(), tmp_path / "evidence")
    report = write_report(tmp_path / "evidence", tmp_path / "out")
    assert "probes.csv" not in report.files and 'id="probes"' not in report.files["index.html"].read_text()
