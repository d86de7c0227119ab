"""Records: written once and whole, read back equal, damage named and passed over."""

import json
import math

import pytest

from bench import evidence
from bench.environment import environment
from bench.evidence import Accuracy, Ceilings, LoaderRates, Run, Training


def run(name="a", **fields):
    return Run(
        name=name,
        subject="trained",
        recipe={"name": "r", "seed": 3},
        seed=3,
        accuracy=Accuracy(knn_top1=70.0, linear_top1=80.0, train_images=100, test_images=50),
        **fields,
    )


TRAINING = Training(
    epoch_seconds=[4.0, 2.0, 3.0],
    wait_seconds=[0.5, 0.1, 0.3],
    views_per_epoch=600,
    losses=[1.0, math.nan],
    precision="fp32",
    device="cpu",
    loader_threads=1,
    model_threads=2,
    peak_host_mib=300.0,
)


def test_round_trip_with_a_diverged_loss(tmp_path):
    path = evidence.write(run(training=TRAINING), tmp_path)
    record = evidence.read(path)
    assert math.isnan(record.training.losses[1])
    assert record.model_dump(exclude={"training"}) == run(created=record.created).model_dump(exclude={"training"})
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_what_the_numbers_mean():
    ceilings = Ceilings(loader_views_per_s=[900.0, 1000.0, 1100.0], model_views_per_s=[250.0, 240.0, 260.0])
    assert (TRAINING.seconds_per_epoch, TRAINING.views_per_s) == (3.0, 200.0)
    assert TRAINING.data_wait_share == pytest.approx(0.1)
    assert (ceilings.loader, ceilings.model, ceilings.bottleneck) == (1000.0, 250.0, "model")
    assert ceilings.efficiency(200.0) == 0.8


def test_evidence_is_never_rewritten(tmp_path):
    evidence.write(run(), tmp_path)
    with pytest.raises(FileExistsError, match=r"a\.json exists"):
        evidence.write(run(), tmp_path)


def test_damaged_and_foreign_files_are_passed_over_by_name(tmp_path):
    evidence.write(run("good"), tmp_path)
    good = (tmp_path / "good.json").read_text()
    (tmp_path / "cut.json").write_text(good[:100])
    (tmp_path / "foreign.json").write_text('{"hello": 1}')
    (tmp_path / "newer.json").write_text(json.dumps({**json.loads(good), "name": "newer", "schema_version": 2}))
    (tmp_path / "copy.json").write_text(good)
    (tmp_path / "folder.json").mkdir()
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    records, complaints = evidence.read_folder(tmp_path)
    assert [record.name for record in records] == ["good"]
    assert len(complaints) == 5
    for name in ("cut", "foreign", "newer", "copy", "folder"):
        assert any(f"{name}.json" in complaint for complaint in complaints)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        evidence.read_folder(tmp_path / "gone")


@pytest.mark.parametrize(
    "broken",
    [
        lambda: run(name="a/b"),
        lambda: TRAINING.model_validate({**TRAINING.model_dump(), "epoch_seconds": []}),
        lambda: TRAINING.model_validate({**TRAINING.model_dump(), "epoch_seconds": [0.0]}),
        lambda: LoaderRates(
            name="l", beton="b", views="v", size=1, views_per_image=1, images=1, threads=1,
            images_per_s={"twoview": []}, first_batch_s={},
        ),
    ],
)  # fmt: skip
def test_a_record_that_says_nothing_cannot_be_made(broken):
    with pytest.raises(ValueError):
        broken()


def test_the_environment_names_machine_and_software():
    here = environment()
    assert here.cpu and here.cpu_count >= 1 and here.memory_gib > 0
    assert here.packages["torch"] != "not installed" and here.packages["ffcv"] == "1.0.2"
    assert str(here.cpu_count) in here.machine
    other = here.model_copy(update={"commit": "0" * 40, "dirty": not here.dirty})
    assert other.hash == here.hash != here.model_copy(update={"python": "2.7"}).hash
