"""The precisions of autocast, and which of them trains an encoder fastest on this machine."""

import time
from typing import Literal

import torch
from torch import nn

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# The batch on which precisions are timed: large enough that calls into torch take a small part of the time.
PIXELS, FEWEST_IMAGES = 64 * 32**2, 8
# The precisions are timed in turn, in at least so many rounds and for at least so many seconds: on a machine that does
# other work too, the fastest of a few rounds may have been disturbed.
ROUNDS, ENOUGH_SECONDS = 4, 1.0


def on_gpu() -> Precision:
    """Return the fastest precision on the current GPU.

    It is bf16 or, if the GPU has no bf16 (V100 and older), fp16, which needs a loss scaler.
    """
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def on_cpu(encoder: nn.Module, size: int) -> Precision:
    """Return the precision, bf16 or fp32, in which this CPU trains the encoder faster.

    Both are timed, because bf16 is not faster everywhere: a CPU without its instructions emulates them and is ten times
    slower, and the backward pass of torch's attention takes several times as long in bf16 if the heads are narrow.
    encoder: takes float images (B, 3, size, size); its gradients and BatchNorm statistics change.
    """
    seconds: dict[Precision, list[float]] = {"bf16": [], "fp32": []}
    begun = time.perf_counter()
    while len(seconds["fp32"]) < ROUNDS or time.perf_counter() - begun < ENOUGH_SECONDS:
        for precision, times in seconds.items():
            times.append(_seconds(encoder, size, precision))
    return min(seconds, key=lambda precision: min(seconds[precision]))


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return torch's autocast to this precision; with fp32 it is disabled."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def _seconds(encoder: nn.Module, size: int, precision: Precision) -> float:
    """Return the time of the encoder's forward and backward pass, over as many images as `PIXELS` allows."""
    images = torch.ones(max(FEWEST_IMAGES, PIXELS // size**2), 3, size, size).to(memory_format=torch.channels_last)
    start = time.perf_counter()
    with autocast(torch.device("cpu"), precision):
        encoder(images).sum().backward()
    return time.perf_counter() - start
