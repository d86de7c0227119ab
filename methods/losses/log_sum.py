"""log sum exp over all pairs, whole or in tiles: the one place where a contrastive loss is quadratic in the batch."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# The log of a kernel as an elementwise function of the cosine.
LogKernel = Callable[[Tensor], Tensor]

DENSE_PAIRS = 2**22  # up to here the whole matrix is kept for the backward pass
TILE_PAIRS = 2**20  # of one tile


def log_sum(
    rows: Tensor, columns: Tensor, log_kernel: LogKernel, left_out: Tensor, log_weight: Tensor | None = None
) -> Tensor:
    """out_i = log sum_k exp(log_kernel(rows_i . columns_k) + log_weight_k), over the columns k not in left_out_i.

    rows: (n, d). columns: (m, d). left_out: int64 (n, any number). log_weight: (m,), a constant. Returns (n,).
    Above DENSE_PAIRS the matrix is made tile by tile and made again for the gradient, so that memory is linear in n
    and m instead of quadratic.
    """
    if len(rows) * len(columns) <= DENSE_PAIRS:
        return _logits(rows @ columns.T, log_kernel, left_out, log_weight).logsumexp(1)
    out: Tensor = _Tiled.apply(rows, columns, log_kernel, left_out, log_weight)
    return out


def _logits(cosine: Tensor, log_kernel: LogKernel, left_out: Tensor, log_weight: Tensor | None) -> Tensor:
    logits = log_kernel(cosine)
    if log_weight is not None:
        logits = logits + log_weight
    return logits.scatter_(1, left_out, -torch.inf)


class _Tiled(torch.autograd.Function):
    """Row after row of tiles. What is kept for the backward pass is the n sums, as in FlashAttention."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, log_kernel: LogKernel, left_out: Tensor, log_weight: Tensor | None
    ) -> Tensor:
        out = rows.new_empty(len(rows))
        for tile in _tiles(rows, columns):
            out[tile] = _logits(rows[tile] @ columns.T, log_kernel, left_out[tile], log_weight).logsumexp(1)
        ctx.save_for_backward(rows, columns, left_out, log_weight, out)
        ctx.log_kernel = log_kernel
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, left_out, log_weight, out = ctx.saved_tensors
        grad_rows = torch.empty_like(rows)
        grad_columns = torch.zeros_like(columns) if ctx.needs_input_grad[1] else None
        with torch.autocast(rows.device.type, enabled=False):
            for tile in _tiles(rows, columns):
                cosine = (rows[tile] @ columns.T).requires_grad_()
                with torch.enable_grad():
                    logits = _logits(cosine, ctx.log_kernel, left_out[tile], log_weight)
                softmax = (logits.detach() - out[tile, None]).exp_().mul_(grad[tile, None])
                (slope,) = torch.autograd.grad(logits, cosine, softmax)
                torch.mm(slope, columns, out=grad_rows[tile])
                if grad_columns is not None:
                    grad_columns.addmm_(slope.T, rows[tile])
        return grad_rows, grad_columns, None, None, None


def _tiles(rows: Tensor, columns: Tensor) -> Iterator[slice]:
    height = max(1, TILE_PAIRS // len(columns))
    for start in range(0, len(rows), height):
        yield slice(start, start + height)
