"""The speed of the loader and the beton writer compared with peers, in several rounds.

A peer is a library that a user could use instead. In each round, ours and all peers take turns at the same work.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twoview.bench.data import betons
from twoview.bench.evidence import ConvertRates, LoaderRates
from twoview.bench.peers.job import ConvertJob, Job
from twoview.bench.peers.race import PATIENCE, TWOVIEW, Process, Unavailable, race
from twoview.bench.peers.worker import CONTESTANTS
from twoview.loaders.beton import open_beton
from twoview.loaders.datasets import Samples
from twoview.loaders.decode import output_layout

PEERS = ("torchvision", "ffcv", "decode")  # the loader's peers in the suites; `twoview measure peers` has more
WRITERS = tuple(name for name in CONTESTANTS["convert"] if name != TWOVIEW)  # the writer's peers
IMAGES, BATCH = 1024, 256  # images in a pass over the data and in a batch, by default


def measure(
    job: Job,
    peers: Sequence[str],
    rounds: int,
    name: str,
    empty_cache: bool = False,
    patience: float = PATIENCE,
    tolerance: float | None = None,
) -> LoaderRates:
    """Measure the loader and the peers in turn, and return their rates as a record.

    Only whole batches are measured: the number of images is rounded down to a multiple of the batch size.

    peers: names of the libraries to compare with.
    rounds: maximum number of rounds; in each, every contestant takes one turn.
    name: the record's name.
    empty_cache: also measure the time to a first batch for which all kernels must be compiled.
    patience: seconds that a contestant may take to start, and for each round.
    tolerance: stop after three or more rounds, once the 95 % interval of every ratio of our rate to a peer's extends
    at most this fraction to either side; None means all rounds.

    Raises ValueError for an unknown peer, or if our loader fails. The record's notes say which peers failed, and why.
    """
    whole = job.images // job.batch * job.batch
    job = job.model_copy(update={"images": whole, "beton": job.beton.resolve()})
    try:
        compiled = _first_batch_with_empty_cache(job) if empty_cache else None
        what = f"loader {job.beton.stem}, {job.views} at {job.size}"
        result = race(job, peers, rounds, what, patience, tolerance)
    except Unavailable as reason:
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
    """Return the seconds until the first batch of a process whose kernel cache is empty."""
    with tempfile.TemporaryDirectory() as kernels, Process(TWOVIEW, job, kernels) as process:
        return float(process.answer()["first_batch_s"])


def measure_conversion(
    samples: Samples, dataset: str, images: int, threads: int, peers: Sequence[str], rounds: int, name: str
) -> ConvertRates:
    """Measure how fast a folder of JPEG files is written to a beton file, in turn with the peers; return the record.

    samples: JPEG images, which are repeated until there are `images` files. name: the record's name.
    Raises ValueError if our writer fails.
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
        except Unavailable as reason:
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
    """Return what `measure loader --json` prints: our figures at the top level, and the peers' under `peers`.

    Rates are medians over the rounds.
    """

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
    peers = {name: {**one(name), "note": record.notes.get(name, "")} for name in record.images_per_s if name != TWOVIEW}
    return {**one(TWOVIEW), **{key: getattr(record, key) for key in work}, "peers": {**peers, **absent}}


def text(result: dict[str, Any]) -> str:
    """Return the result of `as_result` as text, with one line for our loader and one for each peer."""
    lines = []
    for name, one in {TWOVIEW: result, **result["peers"]}.items():
        rates = one.get("absent") or (
            f"{one['images_per_s']:9,.0f} images/s {one['views_per_s']:9,.0f} views/s, first batch"
            f" {one['first_batch_s']:.2f} s, peak memory {one['peak_mib']:,.0f} MiB, {one['added_mib']:,.0f} MiB"
            " beyond the imports"
        )
        note = f" ({one['note']})" if one.get("note") else ""
        lines.append(f"{name:12} {rates}{note}")
    if result["first_batch_empty_cache_s"]:
        lines.append(f"with an empty kernel cache the first batch took {result['first_batch_empty_cache_s']:.1f} s")
    return "\n".join(lines)


def job_for(
    beton: Path, views: str, size: int, threads: int, available: int, images: int = IMAGES, batch: int = BATCH
) -> Job:
    """Return the job for a beton file with `available` samples, which are repeated if a pass needs more images."""
    samples = min(images, available)
    batch = min(batch, images)
    return Job(beton=beton, samples=samples, views=views, size=size, images=images, batch=batch, threads=threads)
