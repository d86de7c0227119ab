"""The command `verify`: whether a `.beton` file is undamaged."""

from pathlib import Path

from tyro.conf import Positional

from twoview.bench.data import inspection
from twoview.bench.runtime.cores import cpu_count
from twoview.commands.numbers import at_least, at_most
from twoview.commands.output import lines, show
from twoview.loaders import beton
from twoview.loaders.limits import THREADS


def run(file: Positional[Path], threads: int = 0, json: bool = False) -> None:
    """Check that every sample of a .beton file decodes and matches its checksum. Exit code 2 if not.

    Args:
        file: a .beton file, written by twoview or by FFCV (whose files have no checksums).
        threads: number of threads that decode; 0 means one per core.
        json: print the result as JSON.
    """
    at_least(0, threads=threads)
    at_most(THREADS, threads=threads)
    result = inspection.verify(beton.open_beton(file), threads or cpu_count())
    damaged = result["damaged"]
    show(result, json, lines({**result, "damaged": len(damaged)}))
    if damaged:
        first, reason = next(iter(damaged.items()))
        raise ValueError(f"{file}: {len(damaged)} of {result['samples']} samples are damaged; sample {first}: {reason}")
