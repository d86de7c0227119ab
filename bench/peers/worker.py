"""The process of one contestant: `python -m bench.peers.worker NAME JOB`, lines of JSON on standard output.

It says how long the first batch took, then makes one pass for each line on standard input and says how long that took.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable

from bench.peers.job import Contestant, Job

CONTESTANTS = {"twoview": "Twoview", "torchvision": "Torchvision", "ffcv": "FFCV"}  # module -> class


def main(name: str, job: str) -> None:
    # What a library prints must not get between our lines.
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)
        contestant = make(name, Job.model_validate_json(job))
        seconds = timed(contestant.first_batch)
        print(json.dumps({"first_batch_s": seconds, "note": contestant.note}), file=out)
        for _ in sys.stdin:
            print(json.dumps({"seconds": timed(contestant.one_pass)}), file=out)


def make(name: str, job: Job) -> Contestant:
    module = importlib.import_module(f"bench.peers.{name}")
    contestant: Contestant = getattr(module, CONTESTANTS[name])(job)
    return contestant


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
