"""From a folder of records to files: CSV read back, the page parsed, hostile names, damaged files."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from twoview.bench.evidence import write
from twoview.reports.report import write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = "<script>alert(1)</script>\"'&$\\frac{$"


@pytest.fixture
def evidence(make, tmp_path):
    """Two seeds of SimCLR with their baselines, and one loader measurement."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    for seed in range(2):
        for record in (
            make.run(knn=79.0 + seed, seed=seed, name=f"simclr-{seed}", training=make.training, ceilings=make.ceilings),
            make.run("untrained", knn=75.0, seed=seed),
            make.run("pixels", knn=82.0, seed=seed),
        ):
            write(record, folder)
    write(make.loader({"twoview": [1234.56, 1300.0], "ffcv": [600.0, 610.0]}, notes={"dali": "not installed"}), folder)
    return folder


class Page(HTMLParser):
    """Reads a page, and fails unless every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def words(report):
    return " ".join("".join(Page(report.files["index.html"].read_text()).text).replace("\u00a0", " ").split())


def test_pandas_reads_the_csv_back(evidence, tmp_path):
    report = write_report(evidence, tmp_path / "out")
    board = pd.read_csv(report.files["leaderboard.csv"])
    frame = report.tables["leaderboard"].frame
    assert board.columns.tolist() == frame.columns.tolist()
    assert board["name"].tolist() == ["simclr-1", "simclr-0"]
    assert board["rank"].tolist() == [1, 2]
    assert board["knn_gain"].tolist() == [5.0, 4.0]
    assert board["views_per_s"].tolist() == [2222.2, 2222.2]
    assert board["efficiency"].tolist() == [0.8889, 0.8889]
    assert board["peak_device_mib"].isna().all()
    assert ",80.00,81.00," in report.files["leaderboard.csv"].read_text()
    exact = pd.read_parquet(report.files["leaderboard.parquet"])
    assert exact.columns.tolist() == board.columns.tolist()
    assert exact["views_per_s"].tolist() == frame["views_per_s"].tolist() == [20_000 / 9] * 2

    loader = pd.read_csv(report.files["loader.csv"])
    assert loader["contestant"].tolist() == ["twoview", "ffcv", "dali"]
    assert loader["images_per_s"].tolist()[:2] == [1267.3, 605.0]
    assert loader["ours_over_it"].tolist()[:2] == [1.0, 2.09]
    assert loader["images_per_s"].isna().tolist() == [False, False, True]


def test_the_page_is_well_formed_and_loads_nothing(evidence, tmp_path):
    html = write_report(evidence, tmp_path / "out").files["index.html"].read_text()
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert {"link", "img", "iframe"}.isdisjoint(page.seen)
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "data", "srcset")]
    assert references and all(value.startswith("#") for value in references)
    assert not re.search(r"url\((?!#)|@import|https?://", html)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for value in references} <= {f"#{value}" for value in ids}
    assert page.seen.count("script") == 1
    assert (
        page.seen.count("table") == 7
    )  # seeds, accuracy per second, runs, claims, loader, and the budgets with and without a recipe
    assert page.seen.count("svg") == 6  # kNN, linear probe, rates with ceilings, memory, loss, loader


def test_the_page_shows_the_tables(evidence, tmp_path):
    text = words(write_report(evidence, tmp_path / "out"))
    assert "4.50 points above the same encoder untrained (+4.00 to +5.00 over 2 seeds" in text
    assert "79.50 ± 0.71" in text
    assert "raw pixels (82.00 %) beat every encoder" in text
    assert "0123456789abcdef0123456789abcdef01234567-dirty" in text
    assert "torch 2.15.0" in text
    assert "chosen for the test" in text
    assert '"temperature": 0.5' in text
    assert "not installed" in text


def test_the_same_evidence_gives_the_same_bytes(evidence, tmp_path):
    one, two = (tmp_path / name for name in ("one", "two"))
    for out in (one, two):
        write_report(evidence, out)
    boards = [f"leaderboard.{suffix}" for suffix in ("csv", "md", "parquet")]
    written = ["accuracy-per-second.csv", "budget.csv", "claims.csv", "index.html", *boards, "loader.csv"]
    assert sorted(path.name for path in one.iterdir()) == written
    for name in written:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert (one / "index.html").stat().st_size < 2_000_000


def test_hostile_names_are_shown_as_text(make, tmp_path):
    folder = tmp_path / "evidence"
    folder.mkdir()
    run = make.run(
        name="hostile",
        training=make.training.model_copy(update={"device": HOSTILE}),
        ceilings=make.ceilings,
        cpu=HOSTILE,
        dataset=HOSTILE,
        method={"name": HOSTILE},
        backbone=HOSTILE,
        source=HOSTILE,
    )
    write(run, folder)
    write(
        make.loader({"twoview": [1.0], HOSTILE: [2.0]}, beton=HOSTILE, views=HOSTILE, notes={HOSTILE: HOSTILE}), folder
    )
    report = write_report(folder, tmp_path / "out")
    html = report.files["index.html"].read_text()
    page = Page(html)
    assert page.seen.count("script") == 1
    assert "<script>alert" not in html
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in "".join(page.text)
    assert pd.read_csv(report.files["leaderboard.csv"])["method"].tolist() == [HOSTILE]
    assert "<script>" not in report.files["leaderboard.md"].read_text()


def test_markdown_keeps_hostile_words_in_their_cell(make, evidence, tmp_path):
    write(make.run(name="piped", method={"name": "a|b\n<b>"}), evidence)
    lines = write_report(evidence, tmp_path / "out").files["leaderboard.md"].read_text().splitlines()
    assert "| 79.50 ± 0.71 |" in next(line for line in lines if "| simclr |" in line)
    assert any("| a\\|b &lt;b&gt; |" in line for line in lines)


def test_a_damaged_file_is_named_and_the_rest_is_shown(evidence, tmp_path):
    (evidence / "torn.json").write_text('{"kind": "run", "name": ')
    report = write_report(evidence, tmp_path / "out")
    assert len(report.tables["leaderboard"].frame) == 2
    assert len(report.complaints) == 1 and report.complaints[0].startswith("torn.json ")
    assert "torn.json" in words(report)
    assert str(tmp_path) not in report.files["index.html"].read_text()


def test_a_valid_record_that_lacks_required_values_is_named_too(make, evidence, tmp_path):
    write(make.run(name="no-epochs", training=make.training.model_copy(update={"epoch_seconds": []})), evidence)
    write(make.run(name="no-size", size=None), evidence)
    report = write_report(evidence, tmp_path / "out")
    assert len(report.tables["leaderboard"].frame) == 2
    assert [complaint.split()[0] for complaint in report.complaints] == ["no-epochs.json", "no-size.json"]


def test_baselines_alone_keep_the_header(make, tmp_path):
    folder = tmp_path / "evidence"
    folder.mkdir()
    write(make.run("pixels"), folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "loader.csv").write_text("of a report before\n")
    report = write_report(folder, tmp_path / "out")
    board = pd.read_csv(report.files["leaderboard.csv"])
    assert board.empty and board.columns.tolist() == report.tables["leaderboard"].frame.columns.tolist()
    assert "loader.csv" not in report.files and not (tmp_path / "out" / "loader.csv").exists()
    assert "No encoder has been trained yet." in words(report)


def test_an_empty_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        write_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_report(tmp_path / "nowhere", tmp_path / "out")
