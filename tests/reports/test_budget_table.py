"""Published budgets compared with measured steps: numbers by hand, and empty cells where nothing was measured."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from twoview.bench import evidence
from twoview.bench.config import recipe
from twoview.bench.evidence import DeviceFigures, Figure, Probed, Probing
from twoview.cli import run
from twoview.reports import papers
from twoview.reports.budget import COLUMNS, budget_table
from twoview.reports.cells import ABSENT, fields
from twoview.reports.table import Table
from twoview.reports.terminal import show_budgets

BUDGETS = papers.budgets(papers.load())
LEE = recipe.load("lee2025-imagenet-simclr")
NAMES = list(fields(COLUMNS))
MEASURED = NAMES[NAMES.index("device") : NAMES.index("note")]


@pytest.fixture
def trained(make):
    """40 steps of half a second, a fifth of the time waiting, 1,024 views per step, on an H100 by default."""

    def of(training=None, gpu="H100", name="t", **changes):
        fields = {
            "epoch_seconds": [25.0], "wait_seconds": [5.0], "views_per_epoch": 40 * 1024, "step_seconds": [0.5] * 40,
            "step_flops": 10**14, "matrix_flops_per_s": [5e14], "joules": 20_000.0,
            "device": "cuda:0" if gpu else "cpu", "peak_device_mib": 8192.0 if gpu else None,
        }  # fmt: skip
        values = recipe.parse(LEE.model_dump(mode="json") | changes, "r").model_dump(mode="json")
        record = make.run(training=make.training.model_copy(update=fields | (training or {})), name=name)
        here = record.environment.model_copy(update={"gpu": gpu})
        return record.model_copy(update={"recipe": values, "environment": here})

    return of


def text(row, name):
    return fields(COLUMNS)[name].text(row)


def lee(records, work="pretraining", price=None):
    table, complaints = budget_table(BUDGETS, records, price)
    assert not complaints
    return table[(table.source == "lee2025") & (table.work == work)].reset_index(drop=True)


def test_without_records_the_measured_cells_are_empty():
    table, _ = budget_table(BUDGETS, [])
    assert list(table.columns) == NAMES and len(table) == len(BUDGETS)
    assert table[MEASURED].isna().all(axis=None)
    lee2025 = table[table.source == "lee2025"].set_index("work")
    assert lee2025.published_hours.round(2).to_dict() == {"pretraining": 60.0, "linear": 36.0, "knn": 0.67}
    assert lee2025.published_memory_gb.to_dict() == {"pretraining": 13.0, "linear": 8.0, "knn": 30.0}
    assert {"lee2025", "tan2024", "solo-learn", "lightly", "ffcv-ssl"} <= set(table.source)
    tan = table[table.source == "tan2024"].iloc[0]
    assert (tan.hardware, text(tan, "published_hours"), text(tan, "gpu_hours")) == (
        "1 x NVIDIA A100",
        papers.ABSENT,
        ABSENT,
    )


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_of_any_width_shows_everything(trained, width):
    """Published and measured hours, GPU-hours, memory, the projection's interval and steps, rates, energy, cost."""
    table, _ = budget_table(BUDGETS, [trained()], price=2.5)
    console = Console(file=io.StringIO(), width=width)
    budgets = Table("Budgets", COLUMNS, table[table.source == "lee2025"])
    show_budgets(budgets, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    said = " ".join(console.file.getvalue().split())
    row = table[table.name == "t"].iloc[0]
    for column in budgets.shown("terminal"):
        heading, value = column.heading.removeprefix("published "), column.text(row)
        assert value != ABSENT and all(word in said for word in f"{heading}: {value}".split()), column.name


def test_the_steps_of_a_run_are_compared_with_lees_budget(trained):
    """250,200 steps of 0.625 s, including waits."""
    (row,) = lee([trained()], price=2.0).to_dict("records")
    hours = 250_200 * 0.625 / 3600
    assert row["device"] == "H100" and row["measured"] == "training" and row["measured_steps"] == 40
    assert row["step_ms"] == 500 and row["seconds_per_epoch"] == pytest.approx(2502 * 0.625)
    assert row["projected_hours"] == row["projected_low"] == row["gpu_hours"] == pytest.approx(hours)
    assert row["gpu_hours_ratio"] == pytest.approx(hours / 480) and row["cost"] == pytest.approx(2 * hours)
    assert row["views_per_s_gpu"] == pytest.approx(1024 / 0.625)
    assert row["tflops"] == pytest.approx(200) and row["mfu"] == pytest.approx(0.4)
    assert row["kwh"] == pytest.approx(500 * 250_200 / 3.6e6) and row["memory_gib"] == 8.0
    assert text(pd.Series(row), "projected_hours") == "43.44 (43.44 to 43.44)"
    assert lee([trained()]).cost.isna().all(), "there is no default price"


def test_ranks_share_the_views_and_their_hours_add_up(trained):
    (row,) = lee([trained({"rank_wait_seconds": [[5.0], [4.0]], "step_flops": None})], price=1.0).to_dict("records")
    assert row["gpu_hours"] == row["cost"] == pytest.approx(2 * row["projected_hours"])
    assert row["views_per_s_gpu"] == pytest.approx(512 / 0.625) and pd.isna(row["tflops"])


def test_a_cpu_row_is_marked_and_has_no_gpu_hours(trained):
    (row,) = lee([trained(gpu=None)], price=2.0).to_dict("records")
    assert row["device"] == "CPU" and pd.isna(row["gpu_hours"]) and pd.isna(row["cost"])
    assert row["gpu_hours_ratio"] == pytest.approx(row["projected_hours"] / 480)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 256},
        {"size": 160},
        {"backbone": {"name": "resnet18", "stem": "imagenet"}},
        {"dataset": "imagenet-100"},
    ],
)
def test_other_work_makes_no_row(trained, changes):
    assert lee([trained(**changes)])[MEASURED].isna().all(axis=None)


def test_a_loaders_rates_make_no_row(make):
    assert lee([make.loader({"twoview": [1e6]})])[MEASURED].isna().all(axis=None)


def test_too_few_steps_are_reported_and_not_projected(trained):
    (row,) = lee([trained({"step_seconds": [0.5] * 12})], price=2.0).to_dict("records")
    assert "no projection: 0 of 12 measured steps are steady, but 30 are needed" in row["note"]
    assert row["measured_steps"] == 12 and pd.isna(row["projected_hours"]) and pd.isna(row["cost"])


def test_the_latest_run_of_a_machine_is_listed_with_the_model_alone(trained, make):
    figures = [Figure(work="w", quantity="step_time", samples=[400.0] * 30)]
    alone = DeviceFigures(
        name="gpu-budget", device="cuda", figures=figures, recipe=trained().recipe, environment=trained().environment
    )
    rows = lee([trained({"step_seconds": [9.0] * 40}), alone, trained(name="newer"), trained(gpu=None)])
    assert [(row.device, row.measured) for row in rows.itertuples()] == [
        ("CPU", "training"), ("H100", "the model alone"), ("H100", "training"),
    ]  # fmt: skip
    assert rows.step_ms.tolist() == [500, 400, 500] and rows.projected_hours[1] == pytest.approx(250_200 * 0.4 / 3600)


def test_a_whole_probe_is_measured_and_not_projected(trained):
    found = Probed(
        top1=60.0, top5=80.0, per_class=[], interval=(59.0, 61.0), train_images=1_281_167, test_images=50_000,
        seconds=120.0, features_seconds=600.0, peak_host_mib=1024.0, peak_device_mib=2048.0, settings={"k": 200},
    )  # fmt: skip

    def record(**fields):
        given = {
            "encoder": "e",
            "encoder_hash": "0",
            "dataset": "imagenet",
            "size": 224,
            "probe": "knn",
            "probed": found,
        }
        given |= {"asked": {}, "recipe": trained().recipe, "environment": trained().environment}
        return Probing(name="p", **given | fields)

    (row,) = lee([record()], "knn").to_dict("records")
    assert row["projected_hours"] == pytest.approx(0.2) and pd.isna(row["measured_steps"]) and row["memory_gib"] == 2.0
    assert (
        row["gpu_hours_ratio"] == pytest.approx(0.2 / (8 * 0.6667))
        and text(pd.Series(row), "projected_hours") == "0.20"
    )
    for other in ({"dataset": "cifar10"}, {"size": 32}, {"probe": "linear"}, {"recipe": None},
                  {"probed": found.model_copy(update={"train_images": 1000})}):  # fmt: skip
        assert lee([record(**other)], "knn")[MEASURED].isna().all(axis=None)
    ours = {"probe": "end-to-end-lee2025", "probed": found.model_copy(update={"settings": {"epochs": 90}})}
    assert lee([record(**ours)], "linear").projected_hours.notna().all()
    assert lee([record(**ours | {"probed": found})], "linear").projected_hours.isna().all(), "not 90 epochs"


def test_a_record_of_another_schema_is_named(trained):
    old = trained()
    old = old.model_copy(update={"recipe": old.recipe | {"color": "red"}})
    table, complaints = budget_table(BUDGETS, [old])
    assert table[MEASURED].isna().all(axis=None) and "t fits no budget: t: color is not a known key" in complaints


def test_the_command_prints_the_budgets(trained, tmp_path, capsys, monkeypatch):
    evidence.write(trained(), tmp_path / "e")
    (tmp_path / "e" / "foreign.json").write_text("{}")
    assert run(["budget", str(tmp_path / "e"), "--price", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    first = json.loads(out)[0]
    assert first["source"] == "lee2025" and first["cost"] == pytest.approx(3 * first["gpu_hours"])
    assert "foreign.json" in err.replace("\n", "")
    assert run(["budget", str(tmp_path / "none")]) == 2
    assert f"no folder of evidence at {tmp_path / 'none'}" in capsys.readouterr().err.replace("\n", "")
    monkeypatch.chdir(tmp_path)
    assert run(["budget"]) == 0 and "lee2025" in capsys.readouterr().out
    assert run(["budget", "--price", "0"]) == 2 and "--price must be above 0" in capsys.readouterr().err


def test_the_records_of_a_folder_are_listed(trained, tmp_path, capsys):
    evidence.write(trained(), tmp_path)
    (tmp_path / "foreign.json").write_text("{}")
    assert run(["evidence", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("foreign.json: ") and lines[1].startswith("t.json: run of lee2025-imagenet-simclr, ")
    assert run(["evidence", "--schema"]) == 0 and capsys.readouterr().out == evidence.schema()
    assert run(["evidence", str(tmp_path / "gone")]) == 2
