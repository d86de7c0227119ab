"""Choose between runs that are bit-equal, at the price of speed, and the fastest kernels."""

import os

import torch


def set_deterministic(wanted: bool, strict: bool = True) -> None:
    """Turn torch's deterministic algorithms on or off, for the whole process.

    wanted: if true, torch uses deterministic algorithms only and one CPU thread, because oneDNN's sums depend on which
    thread ends first. If false, cuDNN may benchmark its kernels and pick the fastest.
    strict: whether an operation without a deterministic algorithm raises a RuntimeError; otherwise it runs, and torch
    warns.
    """
    # Only where something changes: the call imports torch's compiler, which takes seconds.
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted, warn_only=not strict)
    torch.backends.cudnn.benchmark = not wanted
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(1)
