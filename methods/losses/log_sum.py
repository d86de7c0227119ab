"""log sum exp over all pairs, whole or in tiles: the one place where a contrastive loss is quadratic in the batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from twoview.methods.losses.example import Example
from twoview.methods.losses.pairs import unit

# The log of a kernel as an elementwise function of the cosine.
LogKernel = Callable[[Tensor], Tensor]

# Up to here the whole matrix is kept for the backward pass. NT-Xent, forward and backward, d = 128, milliseconds of one
# core, whole / in tiles: B = 128 1.4 / 1.5, B = 256 (these 2^18 pairs) 4.3 / 4.0, B = 512 17.6 / 15.6, B = 2,048
# 583 / 263, B = 8,192 11,400 / 4,500. The Laplacian kernel crosses at the same size.
DENSE_PAIRS = 2**18
# Of one tile: from 2^19 to 2^21 they are equally fast (float32: 4 MiB each, some five at a time).
TILE_PAIRS = 2**20
# Both on a GPU, 64 MiB in float32; not measured yet. Smaller tiles would be launches more than work, and torch.compile
# leaves its graph for tiles.
GPU_PAIRS = 2**24


def mean_log_sum(
    rows: Tensor,
    columns: Tensor,
    log_kernel: LogKernel,
    left_out: Tensor,
    log_weight: Tensor | None = None,
    extra: Tensor | None = None,
) -> Tensor:
    """mean_i log [sum_k exp(log_kernel(rows_i . columns_k) + log_weight_k) + exp(extra_i)], without k in left_out_i.

    rows: (n, d). columns: (m, d). left_out: int64 (n, any number). log_weight: (m,), a constant. extra: (n,), the log
    of one more candidate of each row. Returns a scalar.
    Above DENSE_PAIRS (on a GPU above GPU_PAIRS) the matrix is made tile by tile, and memory is linear in n and m
    instead of quadratic.
    """
    if len(rows) * len(columns) > (GPU_PAIRS if rows.is_cuda else DENSE_PAIRS):
        out: Tensor = _Tiled.apply(rows, columns, log_kernel, left_out, log_weight, extra)
        return out
    sums = _logits(rows @ columns.T, log_kernel, left_out, log_weight).logsumexp(1)
    return (sums if extra is None else torch.logaddexp(sums, extra)).mean()


def _logits(cosine: Tensor, log_kernel: LogKernel, left_out: Tensor, log_weight: Tensor | None) -> Tensor:
    logits = log_kernel(cosine)
    if log_weight is not None:
        logits = logits + log_weight
    return logits.scatter_(1, left_out, -torch.inf)


class _Tiled(torch.autograd.Function):
    """Some rows against all columns at a time, value and gradient in one pass.

    The gradient of a mean is known before the backward pass but for one factor, so each tile's is made while the tile
    is there, and what is kept is as large as rows and columns. Making the tiles again in the backward pass would cost
    a third matrix product and every exponential twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor,
        log_kernel: LogKernel,
        left_out: Tensor,
        log_weight: Tensor | None,
        extra: Tensor | None,
    ) -> Tensor:
        total = rows.new_zeros(())
        grad_rows = torch.empty_like(rows)
        grad_columns = torch.zeros_like(columns) if ctx.needs_input_grad[1] else None
        grad_extra = None if extra is None else torch.empty_like(extra)
        height = max(1, (GPU_PAIRS if rows.is_cuda else TILE_PAIRS) // len(columns))
        for start in range(0, len(rows), height):
            tile = slice(start, start + height)
            cosine = (rows[tile] @ columns.T).requires_grad_()
            with torch.enable_grad():
                logits = _logits(cosine, log_kernel, left_out[tile], log_weight)
            # From here on in place: a tile that fits the cache is worth more than names for what becomes of it.
            share = logits.detach()
            top = share.amax(1) if extra is None else torch.maximum(share.amax(1), extra[tile])
            share.sub_(top[:, None]).exp_()
            sums = share.sum(1)
            if extra is not None and grad_extra is not None:
                one_more = (extra[tile] - top).exp_()
                sums += one_more
                torch.div(one_more, sums, out=grad_extra[tile])
            total += (sums.log() + top).sum()
            # The kernel's own slope by autograd; to divide by the sums is cheaper in the narrow matrices.
            (slope,) = torch.autograd.grad(logits, cosine, share)
            torch.mm(slope, columns, out=grad_rows[tile]).div_(sums[:, None])
            if grad_columns is not None:
                grad_columns.addmm_(slope.T, rows[tile] / sums[:, None])
        ctx.save_for_backward(grad_rows, grad_columns, grad_extra)
        return total / len(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_rows, grad_columns, grad_extra = ctx.saved_tensors
        factor = grad / len(grad_rows)

        def scaled(known: Tensor | None) -> Tensor | None:
            return None if known is None else known * factor

        return scaled(grad_rows), scaled(grad_columns), None, None, None, scaled(grad_extra)


def _in_tiles(z1: Tensor, z2: Tensor, label: Tensor) -> Tensor:
    """The sum that larger batches need, of one view against the other, without each row's own column."""
    own = torch.arange(len(z1), device=z1.device)[:, None]
    loss: Tensor = _Tiled.apply(unit(z1), unit(z2), lambda cosine: cosine / 0.2, own, None, None)
    return loss


EXAMPLES = {"nt_xent, in tiles": Example(_in_tiles, timed=False)}
