"""What the GPU suite measured, with its target next to it and never in its place."""

import io
import math

import pytest
from rich.console import Console

from tests.support.device_records import device, rate
from twoview.bench.evidence import Figure, write
from twoview.reports.cells import fields
from twoview.reports.gpu_table import COLUMNS, gpu_table
from twoview.reports.report import write_report
from twoview.reports.terminal import show


def row(*figures, **fields):
    return gpu_table([device(*figures, **fields)]).iloc[0]


def test_a_row_has_median_quartiles_and_target():
    found = row("gpu-rates-half", rate(2000.0, 4000.0, 3000.0, 3500.0))
    assert (found["measured"], found["quartiles"]) == ("3,250 views/s", "2,750 to 3,625")
    assert (found["target"], found["met"]) == ("≥ 3,000 views/s on one H100", "yes")
    assert row("gpu-rates-half", rate(2999.0))["met"] == "no"
    assert list(gpu_table([]).columns) == list(fields(COLUMNS))


def test_the_end_of_a_course_over_time_is_shown():
    found = row("gpu-cifar10-time", Figure(work="w", quantity="knn_accuracy", samples=[9.0, 70.0, 80.0]))
    assert (found["measured"], found["quartiles"]) == ("80 %", "")


def test_another_card_has_no_target_to_meet():
    found = row("gpu-rates-half", rate(200.0), gpu="NVIDIA T4")
    assert (found["target"], found["met"]) == ("≥ 3,000 views/s on one H100", "")


def test_a_target_that_was_not_reached_has_no_figure_and_is_not_met():
    missed = Figure(
        work="w", quantity="time_to_accuracy", variant="90", samples=[], note="not reached: the best is 88.10 %"
    )
    trained = Figure(work="w", quantity="elapsed_time", samples=[500.0, 1000.0])
    found = row("gpu-cifar10-time", missed, trained)
    assert (found["measured"], found["target"], found["met"]) == ("", "≤ 15 min on one H100", "no")
    assert "99 minutes on one A100" in found["published"] and "88.10 %" in found["note"]


def test_a_run_shorter_than_the_target_neither_meets_nor_misses_it():
    missed = Figure(work="w", quantity="time_to_accuracy", variant="90", samples=[])
    trained = Figure(work="w", quantity="elapsed_time", samples=[100.0, 200.0])
    assert row("gpu-cifar10-time", missed, trained)["met"] == row("gpu-cifar10-time", missed)["met"] == ""


def test_a_stopped_step_says_why_and_is_replaced_by_a_complete_record():
    cut = device("gpu-rates", rate(1.0), hours=1).model_copy(update={"stopped": "it reached its time limit"})
    figure, reason = gpu_table([cut]).to_dict("records")
    assert figure["measured"] == "1 views/s"
    assert (reason["metric"], reason["note"], reason["met"]) == ("stopped", "it reached its time limit", "")
    assert list(gpu_table([device("gpu-rates", rate(2.0)), cut])["measured"]) == ["2 views/s"]


def test_a_check_that_was_not_made_is_not_met():
    check = Figure(work="moco", quantity="recorded_loss_difference", samples=[], tolerance=1e-5)
    assert row("gpu-graph-moco", check)["met"] == ""


@pytest.mark.parametrize(("off", "met"), [(1e-6, "yes"), (1e-3, "no"), (math.nan, "no")])
def test_a_check_is_held_to_its_tolerance_on_any_card(off, met):
    check = Figure(work="nt_xent", quantity="loss_difference", samples=[off], tolerance=1e-5)
    found = row("gpu-losses", check, gpu="NVIDIA T4")
    assert (found["target"], found["met"]) == ("≤ 1e-05 x", met)


def test_the_latest_record_of_each_machine_counts():
    old, new = device("gpu-rates-half", rate(1.0)), device("gpu-rates-half", rate(2.0), hours=1)
    other = device("gpu-rates-half", rate(3.0), gpu="NVIDIA H200", hours=2)
    assert gpu_table([new, old, other])["measured"].tolist() == ["2 views/s", "3 views/s"]


def test_terminal_page_and_csv_show_the_table(tmp_path):
    write(
        device("gpu-rates-half", rate(1234.0), Figure(work="<b>", quantity="epoch_time", samples=[1.0])), tmp_path / "e"
    )
    report = write_report(tmp_path / "e", tmp_path)
    assert (
        "1,234 views/s" in report.files["index.html"].read_text()
        and "&lt;b&gt;" in report.files["index.html"].read_text()
    )
    assert "≥ 3,000 views/s on one H100" in report.files["gpu.csv"].read_text()
    console = Console(file=io.StringIO(), width=200)
    show(report, console)
    assert "Steps on NVIDIA H100" in console.file.getvalue() and "1,234 views/s" in console.file.getvalue()
