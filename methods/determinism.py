"""Two runs bit-equal, at the price of speed; or the fastest kernels."""

import os

import torch


def set_deterministic(wanted: bool, strict: bool = True) -> None:
    """Wanted: only torch's deterministic algorithms, and one thread on a CPU, where oneDNN's sums depend on which
    thread ends first. Not wanted: cuDNN may try out which of its kernels is the fastest.

    strict: an operation without a deterministic algorithm is a RuntimeError; else it runs, and torch warns of it.
    """
    if wanted != torch.are_deterministic_algorithms_enabled():  # the call imports torch's compiler, for seconds
        torch.use_deterministic_algorithms(wanted, warn_only=not strict)
    torch.backends.cudnn.benchmark = not wanted
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(1)
