"""How a run ends: with a result, even if some measurements fail, or with one sentence before training begins."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support import miniatures
from twoview.bench.evidence import read_folder, trained
from twoview.bench.measurement import flops
from twoview.bench.measurement.energy import Energy
from twoview.bench.training import online_probes
from twoview.bench.training import train as training
from twoview.cli import run
from twoview.methods import checkpoint

OTHERWISE = "resume with its settings, or use another --out"
RECIPE = """
source = "a test"
dataset = "imagenette"
views = "crops"
size = 16
epochs = 2
batch = 60
precision = "fp32"
loader_threads = 1
[method]
name = "simclr"
hidden = 8
projection = 4
[backbone]
width = 4
[optim]
lr = 0.01
[probe]
k = 5
online = true
"""
IMAGES = 60


class Runs:
    """`twoview` in this process, with one recipe whose batch takes all images, in named folders."""

    def __init__(self, folder: Path, capsys):
        self.folder, self.capsys = folder, capsys
        self.recipe = folder / "r.toml"
        self.shared = ["--data-root", str(folder / "root"), "--betons", str(folder / "betons")]

    def __call__(self, *words) -> tuple[int, str, str]:
        """Exit code, standard output, and standard error in one line without the progress bars."""
        threads = torch.get_num_threads()
        code = run([str(word) for word in words])
        torch.set_num_threads(threads)
        out, err = self.capsys.readouterr()
        return code, out, " ".join(line.strip() for line in err.splitlines() if "━" not in line)

    def train(self, out: str, *words) -> tuple[int, str, str]:
        return self("train", self.recipe, "--out", self.folder / out, *self.shared, "--json", *words)

    def probe(self, out: str) -> int:
        code, printed, _ = self(
            "probe", self.path(out), *self.shared, "--evidence-dir", self.folder / f"{out}-evidence", "--json"
        )
        assert 0 <= json.loads(printed)["trained"]["knn_top1"] <= 100
        return code

    def path(self, out: str) -> Path:
        return self.folder / out / "checkpoints" / "r-seed0.pt"

    def record(self, out: str):
        (record,), complaints = read_folder(self.folder / f"{out}-evidence")
        assert not complaints
        return record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty small JPEGs, the recipe, and `whole`, a finished run."""
    folder = tmp_path_factory.mktemp("ends")
    miniatures.imagenette(folder / "root", None)
    (folder / "r.toml").write_text(RECIPE)
    shared = ("--data-root", folder / "root", "--betons", folder / "betons")
    assert run([str(word) for word in ("train", folder / "r.toml", "--out", folder / "whole", *shared)]) == 0
    return folder


@pytest.fixture
def runs(folder, capsys):
    return Runs(folder, capsys)


@pytest.fixture
def unmeasured(runs):
    """A function: puts the finished run, without its measurements, into the named folder."""

    def left(out):
        runs.path(out).parent.mkdir(parents=True)
        whole = checkpoint.load(runs.path("whole"))
        checkpoint.save(runs.path(out), {key: value for key, value in whole.items() if key != "measured"})

    return left


def test_a_batch_of_all_images_is_an_epoch(runs):
    code, printed, _ = runs.train("whole", "--resume")
    result = json.loads(printed)
    assert code == 0 and result["loader_views_per_s"] > 0 and result["efficiency"] > 0
    assert len(trained.measured(runs.path("whole"))[1].loader_views_per_s) == training.CEILING_ROUNDS
    assert runs.probe("whole") == 0 and runs.record("whole").ceilings.loader > 0


def test_a_run_without_measurements_is_measured_later(runs, unmeasured):
    """As an earlier version or a power cut leaves it: by `--resume`, and by `probe`, whatever the file's name."""
    unmeasured("resumed")
    assert runs.train("resumed", "--resume")[0] == 0
    unmeasured("probed")
    named = runs.path("probed").rename(runs.path("probed").with_name("mine.pt"))
    code, printed, _ = runs("probe", named, *runs.shared, "--json")
    assert code == 0 and json.loads(printed)["trained"]["knn_top1"] >= 0
    for path in (runs.path("resumed"), named):
        measured, ceilings = trained.measured(path)
        assert len(measured.epoch_seconds) == 2 and measured.step_flops > 0 and ceilings.model > 0


def test_an_unfinished_run_is_not_probed(runs, unmeasured):
    unmeasured("early")
    state = checkpoint.load(runs.path("early"))
    history = state["history"] | {key: state["history"][key][:1] for key in ("epoch_seconds", "wait_seconds")}
    checkpoint.save(runs.path("early"), {**state, "epoch": 1, "history": history})
    code, _, err = runs("probe", runs.path("early"), *runs.shared)
    assert code == 2 and "is at epoch 1 of 2: finish it with `twoview train --resume`" in err


def test_failed_measurements_do_not_fail_a_run(runs, monkeypatch):
    def fails(*_, **__):
        raise Exception("no [counter] here")

    with monkeypatch.context() as broken:
        broken.setattr(Energy, "joules", property(fails))
        broken.setattr(flops, "matrix_ceiling", fails)
        broken.setattr(online_probes, "head_seconds", fails)
        broken.setattr(training, "_step_seconds", fails)
        code, printed, err = runs.train("broken")
    result = json.loads(printed)
    assert code == 0 and result["views_per_s"] > 0 and "efficiency" not in result and "mfu(%)" not in result
    for what in ("the energy", "ceilings", "matrix products", "the online head"):
        assert f"{what} could not be measured: no [counter] here" in err
    before, ceilings = trained.measured(runs.path("broken"))
    assert ceilings is None and before.matrix_flops_per_s == before.online_seconds == [] and before.joules is None
    assert runs.probe("broken") == 0
    record = runs.record("broken")
    assert record.ceilings is None and record.training.epoch_seconds == before.epoch_seconds
    assert runs.train("broken", "--resume")[0] == 0, "missing measurements are made then"
    after, ceilings = trained.measured(runs.path("broken"))
    assert ceilings.loader > 0 and after.step_flops > 0 and after.mfu > 0
    assert after.epoch_seconds == before.epoch_seconds and after.peak_host_mib == before.peak_host_mib


def test_ceilings_are_measured_if_the_flops_cannot_be_counted(runs, unmeasured, monkeypatch):
    def fails(*_):
        raise RuntimeError("not counted")

    monkeypatch.setattr(flops, "counted", fails)
    unmeasured("uncounted")
    assert runs.train("uncounted", "--resume")[0] == 0
    measured, ceilings = trained.measured(runs.path("uncounted"))
    assert measured.step_flops is None and ceilings.model > 0


def test_an_interrupted_measurement_loses_nothing(runs, unmeasured, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    unmeasured("interrupted")
    with monkeypatch.context() as impatient:
        impatient.setattr(training, "_ceilings", interrupted)
        assert runs.train("interrupted", "--resume")[0] == 130
    assert runs.probe("interrupted") == 0 and runs.record("interrupted").ceilings is None
    before, save, written = trained.measured(runs.path("interrupted"))[0], checkpoint.save, []

    def counted(path, state):
        save(path, state)
        written.append(path)

    monkeypatch.setattr(checkpoint, "save", counted)
    assert runs.train("interrupted", "--resume")[0] == 0
    after, ceilings = trained.measured(runs.path("interrupted"))
    assert ceilings.model > 0 and after.epoch_seconds == before.epoch_seconds
    assert written == [runs.path("interrupted")], "existing measurements are not written again"


def test_the_previous_checkpoint_replaces_a_truncated_one(runs, unmeasured):
    """The previous checkpoint also replaces the file; without one, the error names the truncated file."""
    unmeasured("half")
    assert runs.train("half", "--resume")[0] == 0
    path, whole = runs.path("half"), trained.measured(runs.path("half"))
    path.with_name("r-seed0.1.pt").write_bytes(path.read_bytes())
    for content in (b"", path.read_bytes()[:3000], b"<!DOCTYPE html>"):
        path.unlink()
        path.write_bytes(content)
        code, _, err = runs.train("half", "--resume")
        assert code == 0 and "the previous checkpoint is used instead" in err
        assert trained.measured(path) == whole
    path.with_name("r-seed0.1.pt").unlink()
    path.write_bytes(content)
    code, _, err = runs.train("half", "--resume")
    assert code == 2 and f"{path} cannot be read as a checkpoint: it is a web page" in err


def test_an_unmeasured_run_with_a_truncated_checkpoint_is_measured(runs, unmeasured):
    unmeasured("newest")
    path = runs.path("newest")
    path.rename(path.with_name("r-seed0.1.pt"))
    path.write_bytes(b"PK\x03\x04")
    assert runs.train("newest", "--resume")[0] == 0 and trained.measured(path)[1].model > 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--epochs", "3"], "epochs must be 2 as in {}, got 3"),
        (["--batch", "30"], "batch must be 60 as in {}, got 30"),
        (["--optim.lr", "0.02"], "optim.lr must be 0.01 as in {}, got 0.02"),
        (["--views", "eval"], "views must be 'crops' as in {}, got 'eval'"),
    ],
)
def test_resuming_with_other_settings_names_the_differences(runs, words, complaint):
    code, _, err = runs.train("whole", "--resume", *words)
    assert code == 2 and err.endswith(f"{complaint.format(runs.path('whole'))}: {OTHERWISE}")


def test_an_impossible_batch_is_reported_before_the_first_step(runs):
    code, _, err = runs.train("large", "--batch", "61")
    assert code == 2 and "60 images do not fill one batch of 61" in err
    byol = RECIPE.replace('"simclr"', '"byol"\npredictor = 8')
    runs.recipe = runs.folder / "byol.toml"
    runs.recipe.write_text(byol)
    for threads in ("0", "1"):
        code, _, err = runs.train("one", "--batch", "1", "--loader-threads", threads)
        assert code == 2 and "batch must be at least 2 on each rank, since BatchNorm averages over it, got 1" in err
    assert not [file for out in ("large", "one") for file in runs.path(out).parent.glob("*.pt")]


def test_a_run_with_accumulation_records_it_and_counts_the_flops_of_the_whole_batch(runs):
    """The online head, in the same recipe, sees the features of all parts."""
    code, _, _ = runs.train("parts", "--accumulate", "4")
    whole, parts = (checkpoint.load(runs.path(out)) for out in ("whole", "parts"))
    assert code == 0 and parts["recipe"] == whole["recipe"] | {"accumulate": 4}
    assert parts["method"].keys() == whole["method"].keys()
    assert parts["measured"]["training"]["step_flops"] == whole["measured"]["training"]["step_flops"] > 0
    assert parts["history"]["logged"]["online_loss"] == pytest.approx(
        whole["history"]["logged"]["online_loss"], rel=0.1
    )


def test_a_last_batch_of_one_image_is_skipped(runs):
    code, *_ = runs.train("rest", "--batch", "59", "--epochs", "1")
    assert code == 0 and len(trained.measured(runs.path("rest"))[0].losses) == 1
    words = ("--probes", "fine-tune", "--batch", "59", "--epochs", "1", "--json")
    assert runs("probe", runs.path("rest"), *runs.shared, *words)[0] == 0


def test_a_folder_that_cannot_be_written_is_named_before_training(runs, monkeypatch):
    monkeypatch.setattr(training, "Trainer", None)
    (runs.folder / "file").mkdir()
    (runs.folder / "file" / "checkpoints").write_text("no folder")
    code, _, err = runs.train("file")
    assert code == 2 and err.endswith(f"{runs.folder / 'file' / 'checkpoints'}: File exists")


# The command, in a locale with decimal commas if there is one, and with a clock that goes back an hour per reading.
ELSEWHERE = """
import locale, sys, time
from itertools import count

try:
    print(locale.setlocale(locale.LC_ALL, "de_DE.UTF-8"), file=sys.stderr)
except locale.Error:
    pass
real, hours = time.time, count()
time.time = lambda: real() - 3600 * next(hours)
from twoview.cli import main
main()
"""


@pytest.mark.long
def test_training_works_in_an_unusual_environment(runs, tmp_path):
    """All at once, because a process takes seconds: many threads requested, few open files, warnings as errors, a
    narrow and dumb terminal, decimal commas, a clock that is set back, no shared memory.
    """
    if shutil.which("localedef"):
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], capture_output=True)
    strange = {
        "OMP_NUM_THREADS": "4096",
        "PYTHONWARNINGS": "error",
        "TERM": "dumb",
        "COLUMNS": "20",
        "LOCPATH": str(tmp_path),
        "LC_ALL": "de_DE.UTF-8",
    }
    words = ["train", runs.recipe, "--out", runs.folder / "strange", *runs.shared, "--loader-threads", "0", "--mllog"]
    without = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro,size=4k none /dev/shm; exec "$@"', "sh"]
    may = shutil.which("unshare") and not subprocess.run([*without, "true"], capture_output=True, text=True).stderr
    command = [*(without if may else []), sys.executable, "-c", ELSEWHERE, *words]
    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *command]
    done = subprocess.run(limited, env={**os.environ, **strange}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line.removeprefix(":::MLLOG ")) for line in done.stdout.splitlines()]
    assert [event["key"] for event in events].count("epoch_stop") == 2
    measured, ceilings = trained.measured(runs.path("strange"))
    assert (
        ceilings.model > 0
        and min(measured.epoch_seconds) > 0
        and measured.model_threads <= len(os.sched_getaffinity(0))
    )
    assert measured.losses == pytest.approx(trained.measured(runs.path("whole"))[0].losses, rel=1e-3)
