"""README's figures are the committed evidence's."""

import pytest

from twoview.reports.readme import BEGIN, END, README, RESULTS, measured, write


def test_readme_shows_the_committed_evidence():
    text = README.read_text()
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == measured(RESULTS)
    assert "simclr" in text and "torchvision" in text


def test_the_tables_hold_what_the_records_say(make, tmp_path):
    from twoview.bench.evidence import write as keep

    keep(make.run(knn=79.25, training=make.training, ceilings=make.ceilings), tmp_path / "results")
    keep(make.run("untrained", knn=75.0), tmp_path / "results")
    keep(make.loader({"twoview": [1200.0], "torchvision": [200.0]}), tmp_path / "results")
    text = measured(tmp_path / "results")
    row = next(line for line in text.splitlines() if "79.25" in line)
    assert "75.00" in row and "4.25" in row
    assert any("torchvision" in line and "6.00" in line for line in text.splitlines())


def test_what_a_gpu_reached_stands_beside_its_target_and_all_else_on_the_page(tmp_path):
    from tests.support.device_records import device, rate
    from twoview.bench.evidence import Figure
    from twoview.bench.evidence import write as keep

    keep(device("gpu-rates", rate(3100.0), Figure(work="w", quantity="first_epoch_time", samples=[17.0])), tmp_path)
    text = measured(tmp_path)
    assert "On NVIDIA H100" in text and "≥ 3,000 views/s on one H100" in text and "| 3,100 views/s |" in text
    assert "17" not in text


def test_readme_without_marks_is_an_error(tmp_path):
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        write(tmp_path / "README.md", RESULTS)
