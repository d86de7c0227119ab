"""Rows of the probes' cost: medians, paired ratios, and missing peers."""

import math
from datetime import timedelta

from twoview.bench.evidence import ProbeCost, read_folder, write
from twoview.reports.documents import measured
from twoview.reports.probe_table import probe_table
from twoview.reports.report import write_report


def cost(created, name="cost-knn", **other):
    what = {
        "seconds": {"twoview": [2.0, 4.0, 3.0], "faiss": [3.0, 4.0, 6.0]},
        "added_mib": {"twoview": 90.0, "faiss": 180.0},
        "top1": {"twoview": 61.25, "faiss": 61.0},
    } | other
    work = {"train": 50_000, "test": 10_000, "dim": 512, "classes": 100, "threads": 2, "settings": {"k": 20}}
    return ProbeCost(name=name, created=created, probe="knn", **work, **what)


def test_medians_paired_ratios_and_the_latest_record(make):
    now = make.run().created
    old = cost(now - timedelta(hours=1), seconds={"twoview": [9.0], "faiss": [9.0]})
    (row,) = probe_table([cost(now), old]).to_dict("records")
    assert (row["seconds"], row["peer_seconds"], row["peer_over_ours"]) == (3.0, 4.0, "1.50 (1.00 to 2.00)")
    assert (row["features"], row["setting"], row["top1_difference"]) == ("50,000 x 512", "k 20", 0.25)


def test_a_missing_peer_has_a_reason_and_no_numbers(make):
    missing = cost(make.run().created, seconds={"twoview": [2.0]}, notes={"faiss": "No module named 'faiss'"})
    (row,) = probe_table([missing]).to_dict("records")
    assert row["peer"] == "faiss" and math.isnan(row["peer_seconds"]) and row["peer_over_ours"] == ""
    assert row["note"] == "faiss: No module named 'faiss'"


def test_docs_and_page_have_the_table_if_there_are_records(make, tmp_path):
    run = make.run()
    write(run, tmp_path)
    assert "faiss" not in measured(read_folder(tmp_path)[0])
    write(cost(run.created, environment=run.environment), tmp_path)
    page = write_report(tmp_path, tmp_path / "out").files["index.html"].read_text()
    assert "Cost compared with other libraries" in page and "1.50 (1.00 to 2.00)" in page
    lines = measured(read_folder(tmp_path)[0]).splitlines()
    assert any("50,000 x 512" in line and "1.50 (1.00 to 2.00)" in line for line in lines)
