"""Count the floating-point operations of a training step, and relate them to the device's measured matrix ceiling.

The matrix ceiling is the rate that the device reaches in a large matrix product.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from twoview.methods.accumulate import running_again

CEILING_ROUNDS = 5
CEILING_SECONDS = 0.1  # duration of each round
# Side of the matrices: large enough for the device to reach its best rate, small enough for its memory.
CEILING_SIDE = {"cuda": 8192, "cpu": 1024}


def counted(loss: Callable[[], Tensor]) -> int:
    """Return the FLOPs of the forward and backward pass of the loss that `loss` computes.

    A multiply-add counts as two. Matrix products, convolutions and attention are counted, as torch executes them;
    operations that the backward pass of a loss recomputes are counted again, but not the second forward pass through
    the encoder (`methods/accumulate.py`), which saves memory and is no useful work. Elementwise operations, norms and
    the optimizer are not counted, as is usual for MFU.
    """
    with torch.compiler.set_stance("force_eager"), Counter() as counter:  # it does not see into compiled functions
        loss().backward()  # type: ignore[no-untyped-call]
    return int(counter.total)


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations, by torch's formulas. total: the count, without what is computed a second time.

    torch's own FlopCounterMode cannot be used: to count per module it keeps every graph, and thereby the activations.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry  # imported here because it imports triton

        self.total, self._formulas = 0, flop_registry

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        formula = self._formulas.get(function._overloadpacket)
        if formula and not running_again():
            self.total += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


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
