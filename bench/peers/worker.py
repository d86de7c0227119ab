"""The process of one contestant: `python -m twoview.bench.peers.worker NAME JOB`.

It writes lines of JSON to standard output: first how long the first batch took, then, for each line that it reads from
standard input, the rate of one more round and its peak memory. Host memory is the memory of this process without its
child processes: the peak since the imports, and how much of it was added after them. Device memory is the memory that
torch has allocated on the GPU, if there is one.
"""

import importlib
import json
import os
import sys
import time

from twoview.bench.measurement.memory import PeakMemory
from twoview.bench.peers.job import AnyJob, Contestant, ConvertJob, Job, StepJob
from twoview.bench.runtime.processes import end_with_parent
from twoview.loaders.names import look_up

# kind of job -> contestant -> its class, in the module named after the contestant
CONTESTANTS = {
    "load": {
        "twoview": "Twoview",
        "torchvision": "Torchvision",
        "lightly": "Lightly",
        "ffcv": "FFCV",
        "kornia": "Kornia",
        "spdl": "SPDL",
        "dali": "DALI",
        "decode": "Decode",
    },
    "convert": {"twoview": "Writer", "ffcv": "Writer"},
    "step": {"twoview": "Step", "lightly": "Step"},
}


def main(name: str, text: str) -> None:
    """Run the contestant called `name` on a job, given as JSON, until standard input ends."""
    end_with_parent()  # the parent may be killed in the middle of a round
    # The output of libraries goes to standard error, so that it does not mix with our lines of JSON.
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        os.register_at_fork(after_in_child=out.close)  # else our reader would also wait for a loader's workers to end
        job = AnyJob.validate_json(text)
        contestant = make(name, job)
        memory = PeakMemory()
        before = memory.host_mib
        print(json.dumps({"first_batch_s": first_batch(contestant), "note": contestant.note}), file=out)
        for _ in sys.stdin:
            rate = images_per_s(contestant)
            peak = memory.host_mib
            figures = {"images_per_s": rate, "peak_mib": peak, "added_mib": peak - before}
            print(json.dumps(figures | {"device_mib": memory.device_mib}), file=out)


def make(name: str, job: Job | ConvertJob | StepJob) -> Contestant:
    """Return the contestant.

    Raises ValueError for an unknown name, and SystemExit if a package that it needs is not installed.
    """
    kind = look_up("peer", name, CONTESTANTS[job.kind])
    try:
        module = importlib.import_module(f"twoview.bench.peers.{name}")
    except ModuleNotFoundError as error:
        sys.exit(f"the package {error.name} is not installed")
    contestant: Contestant = getattr(module, kind)(job)
    return contestant


def first_batch(contestant: Contestant) -> float:
    """Return the seconds from preparing the contestant to its first batch; then finish that pass."""
    start = time.perf_counter()
    contestant.make()
    batches = iter(contestant.one_pass())
    next(batches)
    seconds = time.perf_counter() - start
    for _ in batches:  # leaving FFCV's loop early would leave its thread and its buffers behind
        pass
    return seconds


def images_per_s(contestant: Contestant) -> float:
    """Run one round and return its rate in images per second.

    Whole passes are repeated until at least the job's `seconds` have elapsed.
    """
    passes, start = 0, time.perf_counter()
    while True:
        for _ in contestant.one_pass():
            pass
        passes += 1
        seconds = time.perf_counter() - start
        if seconds >= contestant.job.seconds:
            return passes * contestant.job.images / seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
