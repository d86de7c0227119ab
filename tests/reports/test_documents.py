"""README and the docs show the committed evidence."""

import re

import pytest

from tests.support.device_records import device, rate
from twoview.bench.evidence import Figure, LoaderRates, read, read_folder
from twoview.bench.evidence import write as keep
from twoview.reports.documents import BEGIN, END, LOADER, RESULTS, ROOT, fill, highlights, measured, write
from twoview.reports.loader_chart import loader_chart


@pytest.fixture(scope="module")
def committed():
    records, complaints = read_folder(RESULTS)
    assert not complaints
    return records


def of_folder(folder):
    return measured(read_folder(folder)[0])


def between_marks(path):
    return path.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def test_readme_and_the_page_of_results_show_the_committed_evidence(committed):
    assert between_marks(ROOT / "README.md") == highlights(committed)
    assert between_marks(ROOT / "docs" / "results.md") == measured(committed)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_chart_shows_the_committed_record(scheme):
    record = read(next(RESULTS.rglob(f"{LOADER}.json")))
    assert (ROOT / "docs" / "images" / f"loader-{scheme}.svg").read_text() == loader_chart(record, scheme)


def test_the_chart_has_the_medians_and_the_speedups(make):
    record = make.loader({"twoview": [900.0, 1000.0, 1300.0], "ffcv": [300.0, 500.0, 500.0], "own": [1.0]})
    assert isinstance(record, LoaderRates)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", loader_chart(record, "light"))
    assert "1,000" in texts
    assert "500   (twoview is 2.6 times as fast)" in texts, "the speedups of the rounds are 3, 2 and 2.6"
    assert len([text for text in texts if "as fast" in text]) == 1, "a loader without a label is skipped"


def test_the_tables_show_the_records(make, tmp_path):
    keep(make.run(knn=79.25, training=make.training, ceilings=make.ceilings), tmp_path)
    keep(make.run("untrained", knn=75.0), tmp_path)
    keep(make.loader({"twoview": [1200.0], "torchvision": [200.0]}), tmp_path)
    text = of_folder(tmp_path)
    row = next(line for line in text.splitlines() if "79.25" in line)
    assert "75.00" in row and "4.25" in row
    assert any("torchvision" in line and "6.00" in line for line in text.splitlines())


def test_gpu_figures_with_a_target_are_in_the_docs_and_others_only_on_the_page(tmp_path):
    keep(device("gpu-rates", rate(3100.0), Figure(work="w", quantity="first_epoch_time", samples=[17.0])), tmp_path)
    text = of_folder(tmp_path)
    assert "On NVIDIA H100" in text and "≥ 3,000 views/s on one H100" in text and "| 3,100 views/s |" in text
    assert "17" not in text


def test_a_page_without_marks_is_an_error(tmp_path):
    (tmp_path / "page.md").write_text("no marks")
    with pytest.raises(ValueError, match=r"page\.md lacks the marks"):
        fill(tmp_path / "page.md", "text")


def test_a_record_that_is_not_valid_is_an_error(tmp_path):
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ValueError, match="broken"):
        write(tmp_path, tmp_path)
