"""Floating-point operations of a training step, counted, and the share of the device's measured matrix ceiling."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

CEILING_ROUNDS = 5
CEILING_SECONDS = 0.1  # of each round
CEILING_SIDE = {"cuda": 8192, "cpu": 1024}  # large enough for the device's best, small enough for its memory


def counted(loss: Callable[[], Tensor]) -> int:
    """FLOPs of the forward and backward pass of what `loss` computes: a product and a sum are two.

    Counted are matrix products, convolutions and attention, as torch executes them; a backward pass that computes
    something again counts it again. Elementwise work, norms and the optimizer are not counted, as is usual for MFU.
    """
    from torch.utils.flop_counter import FlopCounterMode  # here, for it imports triton

    with FlopCounterMode(display=False) as counter:
        loss().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def matrix_ceiling(device: torch.device, dtype: torch.dtype, side: int = 0) -> list[float]:
    """FLOP/s of a square matrix product, one a round: what the best kernel gets out of this device in this dtype."""
    side = side or CEILING_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def rate(products: int) -> float:
        start = time.perf_counter()
        for _ in range(products):
            out = a @ b
        out[0, 0].item()  # waits for the device
        return 2 * side**3 * products / (time.perf_counter() - start)

    rate(1)  # what the first product brings with it
    products = max(1, round(CEILING_SECONDS * rate(1) / (2 * side**3)))
    return [rate(products) for _ in range(CEILING_ROUNDS)]


def mfu(step_flops: int, step_seconds: float, ceiling: float) -> float:
    """Model FLOPs utilization: the step's FLOP/s as a share of the ceiling's (Chowdhery et al. 2022, appendix B)."""
    return step_flops / step_seconds / ceiling
