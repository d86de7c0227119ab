"""What a figure measures is typed; old records, which have labels instead, are converted when they are read."""

import json
from pathlib import Path
from typing import get_args

import pytest

from twoview.bench import evidence
from twoview.bench.evidence import ADAPTER, DeviceFigures, Figure, labels
from twoview.bench.evidence.quantities import KINDS, Quantity
from twoview.bench.regression.compare import compare

RESULTS = Path(__file__).parents[3] / "reports" / "results"
RATES = RESULTS / "gpu" / "gpu-rates.json"


def devices():
    return [record for record in evidence.read_folder(RESULTS)[0] if isinstance(record, DeviceFigures)]


def test_every_quantity_has_a_unit():
    assert set(KINDS) == set(get_args(Quantity))
    assert {*labels.OF_LABEL.values(), *labels.OF_PATTERN.values()} == set(KINDS), "all that old records may have"


def test_every_committed_figure_has_its_quantity_unit_and_course():
    read = {record.name: record.figures for record in devices()}
    assert read
    for path in RESULTS.rglob("*.json"):
        content = json.loads(path.read_text())
        if content["kind"] == "device":
            figures = read.pop(content["name"])
            assert [figure.samples for figure in figures] == [old["samples"] for old in content["figures"]]
            for figure, old in zip(figures, content["figures"], strict=True):
                assert (figure.kind.unit, figure.kind.course) == (old["unit"], old["course"])
    assert not read


def test_figures_of_one_record_have_distinct_keys():
    for record in devices():
        keys = [(figure.work, figure.quantity, figure.variant) for figure in record.figures]
        assert len(keys) == len(set(keys)), record.name


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("figure", "speed", "figure must be a label of schema version 1 or 2, got 'speed'"),
        ("unit", "ms", "unit of loader alone must be views/s, got 'ms'"),
        ("best", True, "best is not a known key"),
    ],
)
def test_an_invalid_old_figure_is_named(tmp_path, key, value, sentence):
    content = json.loads(RATES.read_text()) | {"schema_version": 1, "sha256": None}
    content["figures"][0][key] = value
    (tmp_path / "gpu-rates.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"gpu-rates\.json is not an evidence record of twoview: ") as refused:
        evidence.read(tmp_path / "gpu-rates.json")
    assert str(refused.value).endswith(sentence)


def test_an_old_records_seal_is_checked_against_its_file(tmp_path):
    content = json.loads(RATES.read_text())
    assert content["schema_version"] == 2 and evidence.read(RATES).sha256 == content["sha256"]
    content["figures"][0]["figure"] = "model alone"
    (tmp_path / "gpu-rates.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="its checksum does not match its content"):
        evidence.read(tmp_path / "gpu-rates.json")


def test_a_new_record_has_only_quantities_and_is_read_as_written(tmp_path):
    figures = [Figure(work="w", quantity="time_to_accuracy", variant="85", samples=[4.0])]
    path = evidence.write(DeviceFigures(name="new", device="cpu", figures=figures), tmp_path)
    [figure] = json.loads(path.read_text())["figures"]
    assert figure["quantity"] == "time_to_accuracy" and not {"figure", "unit", "course"} & figure.keys()
    assert evidence.read(path).figures == figures
    with pytest.raises(ValueError, match=r"figures\.0\.quantity"):
        ADAPTER.validate_python(json.loads(path.read_text()) | {"figures": [figure | {"quantity": "step"}]})


def test_old_and_new_records_of_a_step_are_compared_and_tabulated(tmp_path):
    old = evidence.read(RATES)
    new = DeviceFigures(**{key: getattr(old, key) for key in ("name", "environment", "device", "figures", "recipe")})
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / RATES.name).write_bytes(RATES.read_bytes())
    evidence.write(new, tmp_path / "new")
    rows = compare(str(tmp_path / "old"), str(tmp_path / "new"), tmp_path).rows
    assert [row.metric for row in rows] == [f"{one.work}: {one.name}" for one in old.figures if one.kind.better]
    table = evidence.load(tmp_path)
    metrics = [set(part.metric) for _, part in table.groupby("created")]
    assert metrics[0] == metrics[1] and "training_rate" in metrics[0]
    assert old.figures == evidence.read(tmp_path / "new" / RATES.name).figures
