"""The script that Slurm gets, and the life of a job with stand-ins for Slurm's commands and for torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twoview.bench.training.slurm import Job, Launch, script, submit
from twoview.cli import run

JOB = Job(nodes=2, gpus=8, cpus=64, hours=24, partition="a100", sbatch={"account": "vision"})
WORDS = ["quick-cifar10", "--out", "/shared/out"]

# Writes its arguments and its own and its parent's process ids; runs until it is told to end, unless it resumes.
TORCHRUN = """
import json, os, pathlib, signal, sys, time
def save(*_):
    pathlib.Path("saved").write_text("whole")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("started.part").write_text(json.dumps({"words": sys.argv[1:], "pids": [os.getpid(), os.getppid()]}))
os.rename("started.part", "started")
if "--resume" not in sys.argv:
    time.sleep(600)
"""


def test_the_script_requests_nodes_and_says_what_runs_on_them():
    text = script(WORDS, JOB, Path("/shared/slurm"))
    for line in (
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --gpus-per-node=8",
        "#SBATCH --cpus-per-task=64",
        "#SBATCH --time=1440",
        "#SBATCH --partition=a100",
        "#SBATCH --account=vision",
        "#SBATCH --requeue",
        "#SBATCH --signal=USR2@120",
    ):
        assert line in text.splitlines()
    assert "--nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint FIRST_NODE:PORT" in text
    assert "-m twoview train quick-cifar10 --out /shared/out\n" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_without_gpus_each_node_has_one_process():
    text = script(WORDS, Job(1, 0, 2, 1, "", {}), Path("slurm"))
    assert "gpus-per-node" not in text and "--partition" not in text and "--nproc-per-node 1 " in text


def test_only_a_requeued_job_resumes():
    launch = Launch(WORDS, 1, 2)
    assert launch.command("a:1", "7", resume=True) == [*launch.command("a:1", "7", resume=False), "--resume"]


@pytest.mark.parametrize(("name", "value"), [("nodes", 0), ("gpus", -1), ("cpus", 0), ("hours", 0.0)])
def test_an_invalid_number_is_named(name, value):
    with pytest.raises(ValueError, match=f"--{name} must be"):
        Job(**{**{"nodes": 1, "gpus": 1, "cpus": 1, "hours": 1.0, "partition": "", "sbatch": {}}, name: value})


def test_without_slurm_the_error_suggests_a_dry_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="--dry-run"):
        submit(WORDS, JOB, tmp_path)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with stand-ins: sbatch keeps the script, srun runs it here, scontrol notes what it was asked."""
    commands = {
        "sbatch": f'cp "$1" {tmp_path}/script && echo Submitted batch job 42',
        "srun": 'shift 5 && exec "$@"',  # --unbuffered --output FILE --error FILE
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol',
    }
    for name, text in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    (tmp_path / "torch" / "distributed").mkdir(parents=True)
    for name in ("__init__.py", "distributed/__init__.py"):
        (tmp_path / "torch" / name).touch()
    (tmp_path / "torch" / "distributed" / "run.py").write_text(TORCHRUN)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def start(slurm: Path, restarts: int) -> subprocess.Popen:
    (slurm / "started").unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(slurm),
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_RESTART_COUNT": str(restarts),
    }
    return subprocess.Popen(["bash", "script"], cwd=slurm, env=environment, stderr=subprocess.DEVNULL)


def started(slurm: Path, job: subprocess.Popen) -> dict:
    while not (slurm / "started").exists():
        assert job.poll() is None, "torchrun did not start"
        time.sleep(0.05)
    return json.loads((slurm / "started").read_text())


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal now (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


@pytest.mark.skipif(sys.platform != "linux", reason="Slurm runs on Linux")
def test_a_preempted_job_saves_requeues_and_resumes(slurm):
    assert submit(WORDS, JOB, slurm / "logs") == "42"
    assert (slurm / "script").read_text() == script(WORDS, JOB, slurm / "logs")
    job = start(slurm, restarts=0)
    first = started(slurm, job)
    while not catches(first["pids"][1], signal.SIGUSR2):  # which has no handler while torchrun starts
        time.sleep(0.05)
    assert first["words"][first["words"].index("--rdzv-endpoint") + 1].startswith("node7:")
    assert first["words"][-4:] == ["train", *WORDS]
    for pid in first["pids"]:  # Slurm signals every process of the job
        os.kill(pid, signal.SIGUSR2)
    job.wait()
    assert (slurm / "saved").read_text() == "whole"
    assert (slurm / "scontrol").read_text() == "requeue 42\n"
    job = start(slurm, restarts=1)
    assert job.wait() == 0
    assert started(slurm, job)["words"] == [*first["words"], "--resume"]


def test_the_command_prints_the_script(capsys, tmp_path):
    assert run(["submit", "quick-cifar10", "--out", str(tmp_path), "--train-args=--seed 3", "--dry-run"]) == 0
    assert f"train quick-cifar10 --out {tmp_path} --seed 3\n" in capsys.readouterr().out
    assert run(["submit", "quick-cifar10", "--sbatch", "account", "--dry-run"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
