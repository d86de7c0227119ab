"""Steps of the GPU suite that fail, and functions to read the records of a step."""

import os
import time

import torch

from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.suites.gpu.scale import Skipped


def last(records):
    """The final record of a step."""
    *_, whole = records
    return whole


def by_name(record):
    return {figure.name: figure for figure in record.figures}


def fails(context, how):
    if how == "skips":
        raise Skipped("there is no data")
    if how == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB")
    process = Figure(work="w", quantity="elapsed_time", samples=[os.getpid()])
    yield DeviceFigures(name=how, device="cpu", figures=[process])
    if how == "dies":
        os._exit(9)
    if how == "hangs":
        time.sleep(3600)
    raise RuntimeError("the device is lost")
