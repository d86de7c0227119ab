"""Records are written once and atomically, read back equal, named and skipped if damaged, and tabulated."""

import hashlib
import json
import math
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from twoview.bench import evidence
from twoview.bench.evidence import (
    Accuracy,
    Ceilings,
    DeviceFigures,
    Figure,
    LoaderRates,
    Run,
    Training,
    files,
    folder_index,
)
from twoview.bench.measurement import energy, environment
from twoview.bench.measurement.environment import Environment

RESULTS = Path(__file__).parents[3] / "reports" / "results"


def run(name="a", **fields):
    return Run(
        name=name,
        subject="trained",
        recipe={"name": "r", "seed": 3, "method": {"name": "simclr"}, "batch": 8},
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


def test_a_record_with_a_diverged_loss_is_read_back(tmp_path):
    path = evidence.write(run(training=TRAINING), tmp_path)
    record = evidence.read(path)
    sealed = {"training", "calibration_seconds", "mhz", "sha256"}
    assert math.isnan(record.training.losses[1])
    assert record.model_dump(exclude=sealed) == run(created=record.created).model_dump(exclude=sealed)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_seal_is_a_plain_checksum(tmp_path):
    """Anyone can compute it; the record also has the speed of the machine at that moment."""
    content = json.loads(evidence.write(run(training=TRAINING), tmp_path).read_text())
    seal = content.pop("sha256")
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(plain.encode("ascii")).hexdigest() == seal
    assert content["schema_version"] == 3
    assert (
        len(content["calibration_seconds"]) == 5 and 0 < sum(content["calibration_seconds"]) < 0.3 * 20
    )  # busy machine
    assert all(mhz > 0 for mhz in content["mhz"].values())


def test_derived_numbers_follow_from_the_samples():
    ceilings = Ceilings(loader_views_per_s=[900.0, 1000.0, 1100.0], model_views_per_s=[250.0, 240.0, 260.0])
    assert (TRAINING.seconds_per_epoch, TRAINING.views_per_s) == (3.0, 200.0)
    assert TRAINING.data_wait_share == pytest.approx(0.1)
    assert (ceilings.loader, ceilings.model, ceilings.bottleneck) == (1000.0, 250.0, "model")
    assert ceilings.efficiency(200.0) == 0.8


def test_evidence_is_never_rewritten(tmp_path):
    evidence.write(run(), tmp_path)
    with pytest.raises(FileExistsError, match=r"a\.json exists"):
        evidence.write(run(), tmp_path)


def test_damaged_and_foreign_files_are_named_and_skipped(tmp_path):
    evidence.write(run("good"), tmp_path)
    good = (tmp_path / "good.json").read_text()
    (tmp_path / "cut.json").write_text(good[:100])
    (tmp_path / "foreign.json").write_text('{"hello": 1}')
    (tmp_path / "newer.json").write_text(json.dumps({**json.loads(good), "name": "newer", "schema_version": 4}))
    (tmp_path / "changed.json").write_text(good.replace('"good"', '"changed"').replace("70.0", "71.0"))
    (tmp_path / "unsealed.json").write_text(json.dumps({**json.loads(good), "name": "unsealed", "sha256": None}))
    (tmp_path / "copy.json").write_text(good)
    (tmp_path / "folder.json").mkdir()
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    records, complaints = evidence.read_folder(tmp_path)
    assert [record.name for record in records] == ["good"]
    assert len(complaints) == 7
    for name in ("cut", "foreign", "newer", "copy", "folder", "changed", "unsealed"):
        assert any(f"{name}.json" in complaint for complaint in complaints)
    assert sum("its checksum does not match its content" in complaint for complaint in complaints) == 2
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}


def test_a_missing_folder_is_named(tmp_path):
    for way in (evidence.read_folder, evidence.load, evidence.index):
        with pytest.raises(FileNotFoundError, match="gone"):
            way(tmp_path / "gone")


def test_every_record_of_version_1_is_read():
    records, complaints = evidence.read_folder(RESULTS)
    assert records and not complaints
    old = next(record for record in records if record.schema_version == 1)
    assert old.sha256 is None and old.environment.driver is None


def write_from_a_process(folder, start, number):
    start.wait()
    for name in ("shared", *(f"{number}-{i}" for i in range(2))):
        try:
            evidence.write(run(name, data={"writer": str(number)}), folder)
        except FileExistsError as error:
            assert "shared.json exists" in str(error)


def test_concurrent_writers_neither_lose_nor_overwrite_anything(tmp_path):
    forks = multiprocessing.get_context("fork")
    start = forks.Barrier(3)
    processes = [forks.Process(target=write_from_a_process, args=(tmp_path, start, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    records, complaints = evidence.read_folder(tmp_path)
    assert not complaints and not list(tmp_path.glob(".*"))
    assert sorted(r.name for r in records) == sorted(["shared", *(f"{n}-{i}" for n in range(3) for i in range(2))])


def test_the_first_of_two_writers_wins(tmp_path, monkeypatch):
    """The other writer finishes between this writer's check and its rename."""
    other = evidence.checksum

    def slow(content):
        monkeypatch.setattr(files, "checksum", other)
        evidence.write(run("a", data={"writer": "first"}), tmp_path)
        return other(content)

    monkeypatch.setattr(files, "checksum", slow)
    with pytest.raises(FileExistsError, match=r"a\.json exists; evidence is never rewritten"):
        evidence.write(run("a"), tmp_path)
    assert evidence.read(tmp_path / "a.json").data == {"writer": "first"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_all_records_load_as_one_tidy_table(tmp_path):
    figures = [Figure(work="w", quantity="step_time", samples=[3.0, 5.0])]
    rates = LoaderRates(
        name="l", beton="b", views="v", size=32, views_per_image=2, images=8, threads=1,
        images_per_s={"twoview": [100.0, 120.0], "ffcv": [50.0]}, first_batch_s={"twoview": 0.5},
    )  # fmt: skip
    ranks = TRAINING.model_copy(update={"rank_wait_seconds": [[0.5], [0.7]], "logged": {"bias": [0.25]}})
    for record in (run(training=ranks), rates, DeviceFigures(name="d", device="cpu", figures=figures)):
        evidence.write(record, tmp_path)
    (tmp_path / "foreign.json").write_text("[]")
    with pytest.warns(UserWarning, match=r"foreign\.json"):
        table = evidence.load(tmp_path)
    values = table.set_index(["name", "metric", "of", "sample"])["value"].sort_index()
    assert values["a", "epoch_seconds"].tolist() == [4.0, 2.0, 3.0] and values["a", "knn_top1", "", 0] == 70.0
    assert values["a", "rank_wait_seconds", "1", 0] == 0.7 and values["a", "logged", "bias", 0] == 0.25
    assert values["l", "images_per_s", "twoview"].tolist() == [100.0, 120.0]
    assert values["l", "images_per_s", "ffcv", 0] == 50.0
    steps = table[table.metric == "step_time"]
    assert steps.value.tolist() == [3.0, 5.0] and set(steps.unit) == {"ms"} and set(steps.of) == {"w"}
    trained = table[table.name == "a"].iloc[0]
    assert (trained.method, trained.batch, trained.seed, trained.subject) == ("simclr", 8, 3, "trained")
    assert trained.calibration_s > 0 and "seed" not in set(table.metric)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "e").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"/e must be a folder of evidence, got a file$"):
        evidence.write(run(), tmp_path / "e")


def test_the_index_is_rebuilt_from_the_files(tmp_path, monkeypatch):
    evidence.write(run("a"), tmp_path)
    evidence.write(run("b"), tmp_path / "deeper")
    (tmp_path / "foreign.json").write_text("{}")
    first = evidence.index(tmp_path)
    assert list(first.file) == ["a.json", "deeper/b.json", "foreign.json"] and list(first.name) == ["a", "b", ""]
    assert "foreign.json" in first.complaint[2] and first.sha256[0] == evidence.read(tmp_path / "a.json").sha256

    reads = []
    read = evidence.read
    monkeypatch.setattr(folder_index, "read", lambda path: reads.append(path.name) or read(path))
    assert evidence.index(tmp_path).equals(first) and not reads, "indexed files are not read again"
    (tmp_path / "deeper" / "b.json").unlink()
    evidence.write(run("c"), tmp_path)
    assert list(evidence.index(tmp_path).name) == ["a", "c", ""] and reads == ["c.json"]
    for damage in ("", "file,bytes\n1,2\n", "\0\xff"):
        (tmp_path / "index.csv").write_text(damage, encoding="latin-1")
        assert list(evidence.index(tmp_path).name) == ["a", "c", ""]
    (tmp_path / "index.csv").unlink()
    assert list(evidence.index(tmp_path).name) == ["a", "c", ""]
    assert not evidence.read_folder(tmp_path)[1][1:], "the index is neither a record nor a damaged one"


def test_the_published_schema_matches_the_code():
    """`twoview evidence --schema > bench/evidence/schema.json` makes it."""
    assert Path(evidence.__file__).with_name("schema.json").read_text() == evidence.schema()


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
def test_an_invalid_record_cannot_be_made(broken):
    with pytest.raises(ValueError):
        broken()


def test_the_environment_names_machine_and_software():
    here = environment.environment()
    assert here.cpu and here.cpu_count >= 1 and here.memory_gib > 0
    assert here.packages["torch"] != "not installed" and here.packages["ffcv"] == "1.0.2"
    assert str(here.cpu_count) in here.machine
    other = here.model_copy(update={"commit": "0" * 40, "dirty": not here.dirty})
    assert other.hash == here.hash != here.model_copy(update={"python": "2.7"}).hash


def test_records_older_than_an_environment_field_keep_their_hash():
    old = environment.environment().model_dump(exclude={"driver"})
    plain = json.dumps({key: old[key] for key in old if key not in ("commit", "dirty")}, separators=(",", ":"))
    assert Environment(**old).hash == hashlib.sha256(plain.encode()).hexdigest()[:8]
    assert Environment(**old, driver="580.1").hash != Environment(**old).hash


def test_the_driver_and_the_clocks_of_a_gpu_are_recorded(monkeypatch):
    fake = SimpleNamespace(
        NVMLError=RuntimeError, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid, nvmlSystemGetDriverVersion=lambda: "580.1",
        nvmlDeviceGetClockInfo=lambda handle, clock: {("GPU-7", 1): 1980, ("GPU-7", 2): 2619}[handle, clock],
    )  # fmt: skip
    monkeypatch.setattr(energy, "nvml", fake)
    assert environment._driver() is None, "there is no GPU here"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="7"))
    assert environment._driver() == "580.1"
    assert {"gpu": 1980.0, "gpu memory": 2619.0}.items() <= environment.frequencies().items()
