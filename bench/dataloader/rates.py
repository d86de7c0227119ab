"""How fast the loader is, beside its peers: each in a process of its own, one round each in turn, several rounds."""

import json
import os
import random
import statistics
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

from twoview.bench.data import betons
from twoview.bench.evidence import ConvertRates, LoaderRates
from twoview.bench.peers.job import ConvertJob, Job, StepJob
from twoview.bench.peers.worker import CONTESTANTS
from twoview.bench.runtime.progress import progress
from twoview.loaders.beton import open_beton
from twoview.loaders.datasets import Samples
from twoview.loaders.decode import output_layout

OURS = "twoview"
PEERS = ("torchvision", "ffcv", "decode")  # of the suites; `twoview peers` takes more
WRITERS = tuple(name for name in CONTESTANTS["convert"] if name != OURS)
IMAGES, BATCH = 1024, 256  # of a pass and of a batch, unless asked otherwise
PATIENCE = 600.0  # seconds that a contestant may take for its start, and for a round


class Absent(Exception):
    """A contestant that cannot take part; the reason in one sentence."""


class Process:
    """A contestant's process, started and ready for its first round. Absent if it cannot get there.

    kernels: where Numba keeps its compiled kernels; beside their sources by default. tree: the checkout whose code it
    runs, on the interpreter of that one's own .venv where it has one; by default what is installed here.
    openmp: threads of torch and of other users of OpenMP, who choose their own number by default.
    patience: seconds after which it is Absent for want of an answer.
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
        # Not a pipe: one that nobody reads fills up and blocks its writer.
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
        assert self.process.stdout is not None
        if not select([self.process.stdout], [], [], self.patience)[0]:
            raise Absent(f"it gave no answer in {self.patience:g} s, the most it may take")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.complaints.seek(0)
            lines = self.complaints.read().strip().splitlines()
            raise Absent(lines[-1] if lines else f"its process ended with {self.process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def work_a_round(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()


@dataclass
class Race:
    """What came of a race, by contestant: one rate a round; the others as `LoaderRates` has them.

    device_mib: peak of torch's memory on the GPU, where there is one.
    """

    images_per_s: dict[str, list[float]] = field(default_factory=dict)
    first_batch_s: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    added_mib: dict[str, float] = field(default_factory=dict)
    device_mib: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def leave_out(self, contestant: str, reason: Absent) -> None:
        for figures in (self.images_per_s, self.first_batch_s, self.peak_mib, self.added_mib, self.device_mib):
            figures.pop(contestant, None)
        self.notes[contestant] = f"absent: {reason}"


def race(
    job: Job | ConvertJob | StepJob, peers: Sequence[str], rounds: int, what: str, patience: float = PATIENCE
) -> Race:
    """Runs ours and the peers in turn, in a new order each round.

    A peer that cannot take part, dies, or takes more than `patience` seconds for its start or a round, is left out of
    the rates, its reason in the notes. Absent if ours is; ValueError for a peer that there is no code for.
    """
    known = [name for name in CONTESTANTS[job.kind] if name != OURS]
    for peer in peers:
        if peer not in known:
            raise ValueError(f"unknown peer {peer!r}: known are {', '.join(known)}")
    result = Race()

    def leave_out(contestant: str, reason: Absent) -> None:
        if contestant == OURS:
            raise reason
        result.leave_out(contestant, reason)

    with ExitStack() as stack, progress(what, (1 + rounds) * (1 + len(peers))) as advance:
        ready = []
        for contestant in (OURS, *peers):
            process = stack.enter_context(Process(contestant, job, patience=patience))
            try:
                answer = process.answer()
            except Absent as absent:
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
                except Absent as absent:
                    leave_out(process.name, absent)
                    ready.remove(process)
                else:
                    result.images_per_s[process.name].append(answer["images_per_s"])
                    result.peak_mib[process.name] = answer["peak_mib"]
                    result.added_mib[process.name] = answer["added_mib"]
                    if answer["device_mib"] is not None:
                        result.device_mib[process.name] = answer["device_mib"]
                advance()
    return result


def measure(
    job: Job,
    peers: Sequence[str],
    rounds: int,
    name: str,
    empty_cache: bool = False,
    patience: float = PATIENCE,
) -> LoaderRates:
    """Loads in turn with the peers, whole batches only; with empty_cache also a first batch that compiles all kernels.

    ValueError if ours fails.
    """
    whole = job.images // job.batch * job.batch
    job = job.model_copy(update={"images": whole, "beton": job.beton.resolve()})
    try:
        compiled = _first_batch_with_empty_cache(job) if empty_cache else None
        result = race(job, peers, rounds, f"loader {job.beton.stem}, {job.views} at {job.size}", patience)
    except Absent as reason:
        raise ValueError(f"the loader cannot read {job.beton}: {reason}") from None
    return LoaderRates(
        name=name,
        data=betons.identity(open_beton(job.beton)),
        beton=job.beton.name,
        views=job.views,
        size=job.size,
        views_per_image=len(job.view_tuple()),
        images=whole,
        threads=job.threads,
        images_per_s=result.images_per_s,
        first_batch_s=result.first_batch_s,
        notes=result.notes,
        batch=job.batch,
        first_batch_empty_cache_s=compiled,
        peak_mib=result.peak_mib,
        added_mib=result.added_mib,
        batch_mib=output_layout(job.view_tuple(), job.batch)[1] / 2**20,
    )


def _first_batch_with_empty_cache(job: Job) -> float:
    with tempfile.TemporaryDirectory() as kernels, Process(OURS, job, kernels) as process:
        return float(process.answer()["first_batch_s"])


def measure_conversion(
    samples: Samples, dataset: str, images: int, threads: int, peers: Sequence[str], rounds: int, name: str
) -> ConvertRates:
    """Writes a folder of JPEG files in turn with the peers. samples: of JPEGs, repeated as often as fills the images.

    ValueError if ours fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "images")
        for label in set(samples.labels.tolist()):
            (folder / f"{label:04}").mkdir(parents=True)
        for number in range(images):
            stored = samples.stored(number % len(samples))
            (folder / f"{stored.label:04}" / f"{number:06}.jpg").write_bytes(stored.content)
        try:
            job = ConvertJob(images=images, threads=threads, folder=folder)
            result = race(job, peers, rounds, f"convert {dataset}")
        except Absent as reason:
            raise ValueError(f"the writer cannot write {dataset}: {reason}") from None
    return ConvertRates(
        name=name,
        dataset=dataset,
        images=images,
        threads=threads,
        images_per_s=result.images_per_s,
        notes=result.notes,
    )


def as_result(record: LoaderRates) -> dict[str, Any]:
    """What `twoview loader --json` prints: ours at the top level, the peers under `peers`; medians over the rounds."""

    def one(contestant: str) -> dict[str, Any]:
        images = statistics.median(record.images_per_s[contestant])
        return {
            "images_per_s": images,
            "views_per_s": images * record.views_per_image,
            "first_batch_s": record.first_batch_s[contestant],
            "peak_mib": record.peak_mib[contestant],
            "added_mib": record.added_mib[contestant],
            "rounds_images_per_s": record.images_per_s[contestant],
        }

    work = ("threads", "images", "batch", "batch_mib", "first_batch_empty_cache_s")
    absent = {name: {"absent": note} for name, note in record.notes.items() if name not in record.images_per_s}
    peers = {name: {**one(name), "note": record.notes.get(name, "")} for name in record.images_per_s if name != OURS}
    return {**one(OURS), **{key: getattr(record, key) for key in work}, "peers": {**peers, **absent}}


def text(result: dict[str, Any]) -> str:
    """`as_result` for a reader: a line a contestant."""
    lines = []
    for name, one in {OURS: result, **result["peers"]}.items():
        rates = one.get("absent") or (
            f"{one['images_per_s']:9,.0f} images/s {one['views_per_s']:9,.0f} views/s, first batch"
            f" {one['first_batch_s']:.2f} s, peak {one['peak_mib']:,.0f} MiB, {one['added_mib']:,.0f} of them its own"
        )
        note = f" ({one['note']})" if one.get("note") else ""
        lines.append(f"{name:12} {rates}{note}")
    if result["first_batch_empty_cache_s"]:
        lines.append(f"with no compiled kernels the first batch took {result['first_batch_empty_cache_s']:.1f} s")
    return "\n".join(lines)


def job_for(
    beton: Path, views: str, size: int, threads: int, available: int, images: int = IMAGES, batch: int = BATCH
) -> Job:
    """The job for a file of `available` samples, used again where a pass needs more images."""
    samples = min(images, available)
    batch = min(batch, images)
    return Job(beton=beton, samples=samples, views=views, size=size, images=images, batch=batch, threads=threads)
