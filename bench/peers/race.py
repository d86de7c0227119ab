"""A race: contestants do the same work, each in a process of its own, taking turns for several rounds."""

import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from types import TracebackType
from typing import Any, Self

import numpy as np

from twoview.bench.peers.job import ConvertJob, Job, StepJob
from twoview.bench.peers.worker import CONTESTANTS
from twoview.bench.runtime.progress import progress

TWOVIEW = "twoview"
FEWEST_ROUNDS = 3  # an interval from fewer rounds says nothing
PATIENCE = 600.0  # longest time, in seconds, that a contestant may take to start or for a round


class Unavailable(Exception):
    """Raised if a contestant cannot take part; its message is the reason, in one sentence."""


class Process:
    """The process of one contestant, which starts with this object and is killed on leaving its context.

    Its first `answer` comes once the first batch is made.
    kernels: folder for Numba's compiled kernels; by default next to their sources. tree: the checkout whose code is
    run, with the interpreter of that checkout's own .venv if it has one; by default the installed twoview.
    openmp: number of threads for torch and other users of OpenMP, which choose their own number by default.
    patience: seconds to wait for an answer before Unavailable is raised.
    """

    def __init__(
        self,
        name: str,
        job: Job | ConvertJob | StepJob,
        kernels: str | None = None,
        tree: Path | None = None,
        openmp: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        python, env = Path(sys.executable), dict(os.environ)
        if openmp:
            env["OMP_NUM_THREADS"] = str(openmp)
        if kernels:
            env["NUMBA_CACHE_DIR"] = kernels
        if tree:
            env["PYTHONPATH"] = str(tree)
            own = tree / ".venv" / "bin" / "python"
            python = own if own.exists() else python
        command = [str(python), "-P", "-m", "twoview.bench.peers.worker", name, job.model_dump_json()]
        self.name, self.patience = name, patience
        # A file and not a pipe, which would fill up if nobody read it, and block the process.
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            env=env,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.complaints.close()

    def answer(self) -> dict[str, Any]:
        """Return the next answer of the process.

        Raises Unavailable if it takes too long, or if the process has ended.
        """
        assert self.process.stdout is not None
        if not select([self.process.stdout], [], [], self.patience)[0]:
            raise Unavailable(f"it gave no answer in {self.patience:g} s, the most it may take")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.complaints.seek(0)
            lines = self.complaints.read().strip().splitlines()
            if lines and self.process.returncode == 1:  # an exception in Python, whose text is the last line
                raise Unavailable(lines[-1])
            raise Unavailable(f"its process ended with exit code {self.process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def work_a_round(self) -> dict[str, Any]:
        """Have the process work one round, and return its answer: its rate and its memory (see `worker`)."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()


@dataclass
class Race:
    """The measurements of a race, by contestant.

    images_per_s: one rate per round. device_mib: peak of torch's memory on the GPU, if there is one. The other fields
    are described in the evidence record `LoaderRates`.
    """

    images_per_s: dict[str, list[float]] = field(default_factory=dict)
    first_batch_s: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    added_mib: dict[str, float] = field(default_factory=dict)
    device_mib: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def leave_out(self, contestant: str, reason: Unavailable) -> None:
        """Discard a contestant's figures and keep the reason as its note."""
        for figures in (self.images_per_s, self.first_batch_s, self.peak_mib, self.added_mib, self.device_mib):
            figures.pop(contestant, None)
        self.notes[contestant] = f"absent: {reason}"


def race(
    job: Job | ConvertJob | StepJob,
    peers: Sequence[str],
    rounds: int,
    what: str,
    patience: float = PATIENCE,
    tolerance: float | None = None,
) -> Race:
    """Run twoview and the peers in turn, in a new order each round. twoview's kernels are compiled beforehand.

    what: words for the progress line. tolerance: the race ends after the third round or a later one, once the 95 %
    interval of every ratio of our rate to a peer's extends at most this share to either side; None runs all rounds.
    A peer that cannot take part, dies, or takes more than `patience` seconds to start or for a round is omitted from
    the rates, with the reason in the notes. Raises Unavailable if this happens to twoview, and ValueError for an
    unknown peer.
    """
    known = [name for name in CONTESTANTS[job.kind] if name != TWOVIEW]
    for peer in peers:
        if peer not in known:
            raise ValueError(f"unknown peer {peer!r}: choose one of {', '.join(known)}")
    result = Race()

    def leave_out(contestant: str, reason: Unavailable) -> None:
        if contestant == TWOVIEW:
            raise reason
        result.leave_out(contestant, reason)

    with ExitStack() as stack, progress(what, (1 + rounds) * (1 + len(peers))) as advance:
        if isinstance(job, Job):
            with Process(TWOVIEW, job.model_copy(update={"images": job.batch}), patience=patience) as process:
                process.answer()  # the compiled kernels stay next to their sources, for all later processes
        ready = []
        for contestant in (TWOVIEW, *peers):
            process = stack.enter_context(Process(contestant, job, patience=patience))
            try:
                answer = process.answer()
            except Unavailable as absent:
                leave_out(contestant, absent)
            else:
                ready.append(process)
                result.images_per_s[contestant] = []
                result.first_batch_s[contestant] = answer["first_batch_s"]
                if answer["note"]:
                    result.notes[contestant] = answer["note"]
            advance()
        shuffle = random.Random(0)
        for _ in range(rounds):
            shuffle.shuffle(ready)
            for process in tuple(ready):
                try:
                    answer = process.work_a_round()
                except Unavailable as absent:
                    leave_out(process.name, absent)
                    ready.remove(process)
                else:
                    result.images_per_s[process.name].append(answer["images_per_s"])
                    result.peak_mib[process.name] = answer["peak_mib"]
                    result.added_mib[process.name] = answer["added_mib"]
                    if answer["device_mib"] is not None:
                        result.device_mib[process.name] = answer["device_mib"]
                advance()
            if tolerance is not None and settled(result.images_per_s, tolerance):
                break
    return result


def settled(images_per_s: dict[str, list[float]], tolerance: float) -> bool:
    """Return whether the 95 % interval of every ratio of our rate to a peer's is within the tolerance.

    The interval is Student's, on the logarithms of the ratios of paired rounds.
    """
    from scipy import stats  # imported here, because the import takes half a second, which other commands do not need

    ours, *theirs = (np.log(rates) for rates in (images_per_s[TWOVIEW], *images_per_s.values()))
    count = len(ours)
    if count < FEWEST_ROUNDS:
        return False
    # Half the width of Student's interval of a mean, in sample standard deviations.
    reach = stats.t.ppf(0.975, count - 1) / math.sqrt(count)
    return all(reach * np.std(ours - their, ddof=1) <= math.log1p(tolerance) for their in theirs)
