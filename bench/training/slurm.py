"""Run training as a Slurm job through submitit: one task per node runs torchrun, which starts one process per GPU."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission
from submitit.helpers import Checkpointable, TorchDistributedEnvironment
from submitit.slurm.slurm import _make_sbatch_string

GRACE_SECONDS = 120  # between Slurm's signal and the end of the job, enough for one step and a checkpoint
MOST = 1_000_000  # exclusive upper limit of every number in the request to Slurm
REQUEUES = 1000  # how often a job that ran into its time limit may be queued again


@dataclass(frozen=True)
class Job:
    """The request to Slurm. Raises ValueError if a number is out of range.

    gpus, cpus: per node. hours: time limit. partition: empty for Slurm's default.
    sbatch: more options of sbatch, by their long names.
    """

    nodes: int
    gpus: int
    cpus: int
    hours: float
    partition: str
    sbatch: dict[str, str]

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus", "hours"):
            if not 0 < getattr(self, name) < MOST:
                raise ValueError(f"--{name} must be above 0 and below {MOST:,}, got {getattr(self, name)}")
        if not 0 <= self.gpus < MOST:
            raise ValueError(f"--gpus must be 0 or above and below {MOST:,}, got {self.gpus}")


class Launch(Checkpointable):
    """The program on each node: torchrun, whose instances on all nodes connect to the first node.

    words: the arguments of `twoview train`. processes: number of processes on each node. A job that was queued again
    continues with --resume. Slurm counts the restarts, both those by Slurm itself (after preemption or a node failure)
    and those by submitit (after the time limit).
    """

    def __init__(self, words: list[str], nodes: int, processes: int) -> None:
        self.words, self.nodes, self.processes = words, nodes, processes

    def command(self, endpoint: str, job: str, resume: bool) -> list[str]:
        """Return the torchrun command of a node.

        endpoint: HOST:PORT of torchrun's rendezvous. job: torchrun's id of the rendezvous, which separates jobs on one
        host. resume: whether to continue from the checkpoint.
        """
        torchrun = [sys.executable, "-m", "torch.distributed.run"]
        torchrun += ["--nnodes", str(self.nodes), "--nproc-per-node", str(self.processes)]
        torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", job]
        return [*torchrun, "-m", "twoview", "train", *self.words, *["--resume"] * resume]

    def __call__(self) -> None:
        where = TorchDistributedEnvironment()
        resume = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
        endpoint = f"{where.master_addr}:{where.master_port}"
        command = self.command(endpoint, submitit.JobEnvironment().job_id, resume)
        print(shlex.join(command), flush=True)
        # Slurm may send submitit's signal to every process of the job, and would end those that do not handle it. So
        # torchrun is started while the signal is ignored, which it inherits.
        submitits = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        engine = subprocess.Popen(command)
        self._pid = engine.pid
        signal.signal(signal.SIGUSR2, submitits)
        if code := engine.wait():
            raise RuntimeError(f"torchrun ended with exit code {code}: {shlex.join(command)}")

    def checkpoint(self) -> DelayedSubmission:
        """Let the training run finish its step and save. submitit calls this before it queues the job again."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGTERM)
            # WNOWAIT leaves the exit code to `wait` in __call__, which this handler interrupts.
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Launch(self.words, self.nodes, self.processes))


def script(words: list[str], job: Job, folder: Path) -> str:
    """Return the script that `submit` gives to sbatch. Slurm need not be installed."""
    # These are private names of submitit. Its public SlurmExecutor makes the same script, but needs srun.
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder.absolute()))}"
    return _make_sbatch_string(command=command, folder=folder.absolute(), **_parameters(words, job))


def submit(words: list[str], job: Job, folder: Path) -> str:
    """Submit the job and return its id.

    folder: for the script and the logs; all nodes must see it. Raises OSError if Slurm is not installed.
    """
    try:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
    except RuntimeError:
        raise OSError("Slurm is not installed here (no srun on the PATH): use --dry-run to see the script") from None
    executor.update_parameters(**_parameters(words, job))
    return str(executor.submit(_launch(words, job)).job_id)


def _launch(words: list[str], job: Job) -> Launch:
    """Return the program for each node of the job; without GPUs it has one process."""
    return Launch(words, job.nodes, max(1, job.gpus))


def _parameters(words: list[str], job: Job) -> dict[str, Any]:
    """Return the job's parameters under the names of submitit's Slurm executor."""
    on_each_node = shlex.join(_launch(words, job).command("FIRST_NODE:PORT", "JOB", resume=False))
    asked: dict[str, Any] = {
        "job_name": "twoview",
        "nodes": job.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": job.cpus,
        "time": round(60 * job.hours),
        "signal_delay_s": GRACE_SECONDS,
        "additional_parameters": {"requeue": True, **job.sbatch},
        "setup": [f"# on each node: {on_each_node}", "# after a requeue with --resume"],
    }
    if job.gpus:
        asked["gpus_per_node"] = job.gpus
    if job.partition:
        asked["partition"] = job.partition
    return asked
