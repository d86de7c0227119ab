"""The precisions of autocast, and which of them is the fastest on this machine."""

import time
from typing import Literal

import torch
from torch import nn

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fastest(device: torch.device) -> Precision:
    """Return the fastest precision on the device.

    On a GPU it is bf16 or, if the GPU has no bf16 (V100 and older), fp16, which needs a loss scaler.
    On a CPU, a small convolution is timed forward and backward in bf16 and in fp32, because a CPU without bf16
    instructions emulates them and is ten times slower.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if _seconds("bf16") < _seconds("fp32") else "fp32"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return torch's autocast to this precision; with fp32 it is disabled."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def _seconds(precision: Precision) -> float:
    """Return the shortest of three times of a 32-channel convolution, forward and backward, after one warm-up."""
    conv = nn.Conv2d(32, 32, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.ones(32, 32, 16, 16).to(memory_format=torch.channels_last)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        with autocast(torch.device("cpu"), precision):
            conv(x).sum().backward()
        times.append(time.perf_counter() - start)
    return min(times[1:])
