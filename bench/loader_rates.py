"""How fast the loader is, beside its peers: each in a process of its own, one pass each in turn, several rounds."""

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.evidence import LoaderRates
from bench.peers.job import Job
from bench.peers.worker import CONTESTANTS
from bench.progress import progress

OURS = "twoview"
PEERS = tuple(name for name in CONTESTANTS if name != OURS)
BATCH = 32  # at most, so that even a small file makes several batches a pass


class Absent(Exception):
    """A contestant that cannot take part; the reason in one sentence."""


class Process:
    """A contestant's process, started and ready for its first pass. Absent if it cannot get there."""

    def __init__(self, name: str, job: Job) -> None:
        command = [sys.executable, "-P", "-m", "bench.peers.worker", name, job.model_dump_json()]
        self.name = name
        # Not a pipe: one that nobody reads fills up and blocks its writer.
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints, text=True
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
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.complaints.seek(0)
            lines = self.complaints.read().strip().splitlines()
            raise Absent(lines[-1] if lines else f"its process ended with {self.process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def seconds_of_a_pass(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer()["seconds"])


def measure(job: Job, peers: Sequence[str], rounds: int, name: str) -> LoaderRates:
    """Runs ours and the peers in turn, in a new order each round.

    A peer that cannot take part, or dies, is left out of the rates, its reason in the notes. ValueError if ours fails,
    or for a peer that there is no code for.
    """
    for peer in peers:
        if peer not in PEERS:
            raise ValueError(f"unknown peer {peer!r}: known are {', '.join(PEERS)}")
    whole = job.images // job.batch * job.batch
    job = job.model_copy(update={"images": whole, "beton": job.beton.resolve()})
    rates: dict[str, list[float]] = {}
    first: dict[str, float] = {}
    notes: dict[str, str] = {}

    def leave_out(contestant: str, reason: Absent) -> None:
        if contestant == OURS:
            raise ValueError(f"the loader cannot read {job.beton}: {reason}") from None
        rates.pop(contestant, None)
        first.pop(contestant, None)
        notes[contestant] = f"absent: {reason}"

    with (
        ExitStack() as stack,
        progress(f"loader {job.beton.stem} at {job.size}", (1 + rounds) * (1 + len(peers))) as advance,
    ):
        ready = []
        for contestant in (OURS, *peers):
            process = stack.enter_context(Process(contestant, job))
            try:
                answer = process.answer()
            except Absent as absent:
                leave_out(contestant, absent)
            else:
                ready.append(process)
                rates[contestant] = []
                first[contestant] = answer["first_batch_s"]
                if answer["note"]:
                    notes[contestant] = answer["note"]
            advance()
        shuffle = random.Random(0)
        for _ in range(rounds):
            shuffle.shuffle(ready)
            for process in tuple(ready):
                try:
                    rates[process.name].append(whole / process.seconds_of_a_pass())
                except Absent as absent:
                    leave_out(process.name, absent)
                    ready.remove(process)
                advance()
    return LoaderRates(
        name=name,
        beton=job.beton.name,
        views=job.views,
        size=job.size,
        views_per_image=len(job.view_tuple()),
        images=whole,
        threads=job.threads,
        images_per_s=rates,
        first_batch_s=first,
        notes=notes,
    )


def as_result(record: LoaderRates) -> dict[str, Any]:
    """What `twoview loader --json` prints: ours at the top level, the peers under `peers`; medians over the rounds."""

    def one(contestant: str) -> dict[str, Any]:
        images = statistics.median(record.images_per_s[contestant])
        return {
            "images_per_s": images,
            "views_per_s": images * record.views_per_image,
            "first_batch_s": record.first_batch_s[contestant],
            "rounds_images_per_s": record.images_per_s[contestant],
        }

    absent = {name: {"absent": note} for name, note in record.notes.items() if name not in record.images_per_s}
    peers = {name: {**one(name), "note": record.notes.get(name, "")} for name in record.images_per_s if name != OURS}
    return {**one(OURS), "threads": record.threads, "images": record.images, "peers": {**peers, **absent}}


def job_for(beton: Path, views: str, size: int, threads: int, images: int, available: int) -> Job:
    """The job for a file: at most `images` of the `available` ones."""
    count = min(images, available)
    return Job(beton=beton, views=views, size=size, images=count, batch=min(BATCH, count), threads=threads)
