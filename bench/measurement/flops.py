"""Count the floating-point operations of a training step, and relate them to the device's measured matrix ceiling.

The matrix ceiling is the rate that the device reaches in a large matrix product.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

CEILING_ROUNDS = 5
CEILING_SECONDS = 0.1  # duration of each round
# Side of the matrices: large enough for the device to reach its best rate, small enough for its memory.
CEILING_SIDE = {"cuda": 8192, "cpu": 1024}


def counted(loss: Callable[[], Tensor]) -> int:
    """Return the FLOPs of the forward and backward pass of the loss that `loss` computes.

    A multiply-add counts as two. Matrix products, convolutions and attention are counted, as torch executes them;
    operations that a backward pass recomputes are counted again. Elementwise operations, norms and the optimizer are
    not counted, as is usual for MFU.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imported here because it imports triton

    with FlopCounterMode(display=False) as counter:
        loss().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def matrix_ceiling(device: torch.device, dtype: torch.dtype, side: int = 0) -> list[float]:
    """Measure the FLOP/s of a square matrix product, the highest rate of a kernel on this device in this dtype.

    side: side of the matrices; 0 for the device's default. Returns one rate per round.
    """
    side = side or CEILING_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def rate(products: int) -> float:
        start = time.perf_counter()
        for _ in range(products):
            out = a @ b
        out[0, 0].item()  # waits for the device
        # A product of two matrices of side n takes 2 n^3 floating-point operations.
        return 2 * side**3 * products / (time.perf_counter() - start)

    rate(1)  # warm up: the first product also initializes the library
    products = max(1, round(CEILING_SECONDS * rate(1) / (2 * side**3)))
    return [rate(products) for _ in range(CEILING_ROUNDS)]


def mfu(step_flops: int, step_seconds: float, ceiling: float) -> float:
    """Return the model FLOPs utilization: the step's FLOP/s over the ceiling (Chowdhery et al. 2022, appendix B)."""
    return step_flops / step_seconds / ceiling
