"""Valid but strange records: one sentence each, all others shown, and their texts are escaped in every output."""

import copy
import io
import json
import math
import multiprocessing
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.bench import evidence
from twoview.bench.evidence import ADAPTER, Probing, read_folder, write
from twoview.bench.runtime.locks import alone
from twoview.bench.runtime.progress import Terminal
from twoview.reports import report as reporting
from twoview.reports import sections
from twoview.reports.report import write_report
from twoview.reports.terminal import show

RESULTS = Path(reporting.__file__).parent / "results"
KINDS = ("convert", "device", "loader", "probe-cost", "run", "theory")
TITLE = "\x1b]0;title taken\x07\x1b[2J\x9b31m\u202e"
MARKDOWN_IMAGE = "![pixel](http://evil.example/p.png) @everyone"
ODD = [
    *(0, -1, 2**53 - 1, -(2**62), 0.0, 1e-24, 1e24, -1e24, 1e300, math.nan, math.inf, -math.inf),
    *("", "x", "8", "-5", "=1", TITLE, "a\nb", "$\\frac{", "<b>", "A" * 100, "cifar10", "simclr"),
    *(None, True, [], {}, [1.0], [math.nan], [[]], {"name": "x"}, {"name": []}, {"": 0}),
]


@pytest.fixture(scope="module")
def committed():
    """The smallest committed record of each kind, without its seal."""
    found = {}
    for path in sorted(RESULTS.rglob("*.json"), key=lambda path: (path.stat().st_size, path)):
        content = json.loads(path.read_text())
        content["schema_version"] = 1
        content.pop("sha256", None)
        found.setdefault(content["kind"], content)
    assert sorted(found) == list(KINDS)
    return found


def places(value, way=()):
    """The path of every key within, and of at most three items of a list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*way, key)
        yield from places(part, (*way, key))


def changed(content, data):
    """A copy with some values replaced, removed or renamed."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(
            st.sampled_from([one for one in places(content) if one[0] not in ("kind", "schema_version")])
        )
        table = content
        for part in way:
            table = table[part]
        what = data.draw(st.sampled_from(["put", "put", "put", "remove", "rename"]))
        if what == "put":
            table[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
        else:
            value = table.pop(last)
            if what == "rename" and isinstance(table, dict):
                table[data.draw(st.sampled_from(["twoview", "other", "", TITLE]))] = value
    return content


@settings(max_examples=30)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_any_valid_record_is_shown_or_named(committed, data, kind):
    try:
        record = ADAPTER.validate_json(json.dumps(changed(committed[kind], data)))
    except ValueError:
        return
    complaints = []
    if reporting._presentable(record, complaints):
        _, files = reporting._made([record, ADAPTER.validate_python(committed[kind])], [], [])
        assert files["index.html"]
    else:
        [complaint] = complaints
        assert complaint.startswith(f"{record.name}.json cannot be shown: ") and "\n" not in complaint


@pytest.fixture
def folder(make, tmp_path):
    """A run that can be shown."""
    write(make.run(name="good", training=make.training, ceilings=make.ceilings), tmp_path / "evidence")
    return tmp_path / "evidence"


def keep(content, folder):
    (folder / f"{content['name']}.json").write_text(json.dumps(content))


def test_a_probes_cost_with_another_peer_is_a_row(committed, folder, tmp_path):
    cost = copy.deepcopy(committed["probe-cost"])
    for table in ("seconds", "added_mib", "top1"):
        cost[table] = {name if name == "twoview" else "cuml": value for name, value in cost[table].items()}
    keep(cost, folder)
    keep(cost | {"name": "alone", "seconds": {"twoview": [1.0]}, "top1": {}, "added_mib": {}}, folder)
    report = write_report(folder, tmp_path / "out")
    assert not report.complaints and sorted(report.tables["probe-costs"].frame.peer) == ["", "cuml"]


@pytest.mark.parametrize("breaks", [{"strange"}, {"strange", "other"}, {"strange", "good"}])
def test_a_record_that_breaks_a_part_of_the_report_is_named_and_the_others_are_shown(
    make, folder, tmp_path, monkeypatch, breaks
):
    """In the last case, neither record breaks anything alone, so the first one is shown."""
    for name in ("strange", "other"):
        write(make.run(name=name, seed=1), folder)
    plots = sections.training_plots

    def broken(runs, *others):
        together = {run.name for run in runs} & breaks
        if together and ("good" not in breaks or together == breaks):
            raise KeyError(" ".join(sorted(together)))
        return plots(runs, *others)

    monkeypatch.setattr(sections, "training_plots", broken)
    report = write_report(folder, tmp_path / "out")
    left_out = breaks - {"good"}
    assert sorted(report.tables["leaderboard"].frame.name) == sorted({"good", "strange", "other"} - left_out)
    assert len(report.complaints) == len(left_out)
    for complaint in report.complaints:
        assert complaint.split(" cannot be shown: KeyError")[0].removesuffix(".json") in left_out
        assert complaint.partition(" ")[0] in report.files["index.html"].read_text()


def test_images_that_are_not_files_are_named(folder, tmp_path):
    os.mkfifo(folder / "good.png")
    (folder / "stray.png").symlink_to("/dev/zero")
    [complaint] = write_report(folder, tmp_path / "out").complaints
    assert complaint.startswith("good.png cannot be shown") and str(tmp_path) not in complaint


@pytest.fixture
def hostile(make, committed, folder):
    """Records whose every free text holds control sequences and Markdown."""
    text = f"{TITLE}{MARKDOWN_IMAGE}"
    run = make.run(
        name="hostile",
        training=make.training.model_copy(update={"device": text}),
        cpu=text,
        dataset=text,
        method={"name": text},
        backbone=text,
        source=text,
    )
    write(run.model_copy(update={"recipe": run.recipe | {"name": text}, "overrides": {text: text}}), folder)
    rates = {"twoview": [1.0], text: [2.0]}
    write(make.loader(rates, cpu=text, beton=text, views=text, notes={text: f"={text}", "absent": "@SUM(1)"}), folder)
    for kind in ("device", "theory"):
        record = ADAPTER.validate_python(committed[kind])
        content = json.loads(record.model_dump_json())
        content["environment"]["cpu"] = text
        for part in content.get("figures", []) + content.get("claims", []):
            part |= {
                key: f"{text}{part[key]}"
                for key in ("work", "variant", "note", "name", "measured", "source")
                if isinstance(part.get(key), str)
            }
        keep(content, folder)
    return folder


def test_text_from_records_is_escaped_in_every_output(hostile, tmp_path):
    report = write_report(hostile, tmp_path / "out")
    assert not report.complaints
    for width in (60, 400):
        terminal = Terminal(file=io.StringIO(), width=width)
        show(report, terminal)
        assert terminal.file.getvalue().replace("\n", "").isprintable()
    for path in (tmp_path / "out").iterdir():
        if path.suffix in (".csv", ".md"):
            assert path.read_text().replace("\n", "").isprintable(), path
    for sequence in ("\x1b", "\x07", "\x9b", "\u202e"):
        assert sequence not in report.files["index.html"].read_text()
    notes = pd.read_csv(report.files["loader.csv"]).note.tolist()
    assert any(str(note).startswith("'=") for note in notes) and "'@SUM(1)" in notes
    markdown = report.files["leaderboard.md"].read_text()
    assert r"!\[pixel\](http\://evil.example" in markdown and "@<!-- -->everyone" in markdown


def test_numbers_in_a_csv_stay_numbers(make, tmp_path):
    write(make.run(knn=70.0, seed=-1), tmp_path / "evidence")
    write(make.run("untrained", knn=75.0, seed=-1), tmp_path / "evidence")
    board = pd.read_csv(write_report(tmp_path / "evidence", tmp_path / "out").files["leaderboard.csv"])
    assert board.knn_gain.tolist() == [-5.0] and board.seed.tolist() == [-1]


def test_the_longest_name_is_drawn(make, folder, tmp_path):
    long = "A" * 100
    write(make.loader({"twoview": [1.0], long: [2.0]}, notes={long: "n" * 20_000}), folder)
    write(make.run(name="long", training=make.training, dataset=long, method={"name": long}, backbone=long), folder)
    assert not write_report(folder, tmp_path / "out").complaints
    write(make.run(name="longer", dataset=f"{long}A"), folder)
    [complaint] = write_report(folder, tmp_path / "out").complaints
    assert complaint.startswith("longer.json cannot be shown: dataset must have at most 100 characters, got 101")


def test_a_second_report_to_the_same_folder_is_refused(folder, tmp_path):
    out = tmp_path / "out"
    says = rf"the report .*index\.html is being written by another process \(pid {os.getpid()}\)"
    with alone(out / "index.html", "the report"), multiprocessing.get_context("fork").Pool(1) as pool:
        second = pool.apply_async(write_report, (folder, out))
        with pytest.raises(BlockingIOError, match=says):
            second.get(60)
    assert not list(out.iterdir())
    write_report(folder, out)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_report_that_fails_midway_keeps_the_previous_one(make, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_report(folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write(make.run(name="more", knn=12.0, seed=5), folder)
    writing = Path.write_bytes

    def full(path, content):
        if "index.html" in path.name:
            raise OSError(28, "No space left on device")
        return writing(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*index\.html"):
        write_report(folder, out)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_probe_of_an_encoder_with_odd_texts_is_a_row(make, folder, tmp_path):
    probed = evidence.Probed(
        top1=50.0, top5=None, per_class=[None, 50.0], interval=(40.0, 60.0), train_images=10, test_images=10,
        seconds=0.0, peak_host_mib=1.0,
    )  # fmt: skip
    run = make.run()
    odd = Probing(
        name="probe", created=run.created, environment=run.environment, encoder=TITLE, encoder_hash="0",
        dataset=MARKDOWN_IMAGE, size=0, probe=TITLE, probed=probed, asked={}, recipe={"backbone": TITLE},
    )  # fmt: skip
    write(odd, folder)
    report = write_report(folder, tmp_path / "out")
    assert not report.complaints and "\x1b" not in report.files["probes.csv"].read_text()


def test_the_committed_evidence_is_read_without_complaints():
    records, complaints = read_folder(RESULTS)
    assert len(records) >= 147 and not complaints
