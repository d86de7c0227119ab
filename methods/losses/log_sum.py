"""Log-sum-exp over all pairs of embeddings, the only part of a contrastive loss that is quadratic in the batch size.

Small batches use one dense matrix of similarities. Larger ones are computed tile by tile, in memory linear in the batch
size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from twoview.methods.losses.example import Example
from twoview.methods.losses.pairs import unit

# The log of a kernel as an elementwise function of the cosine.
LogKernel = Callable[[Tensor], Tensor]

# Up to this many pairs the whole matrix is made and kept for the backward pass. Measured for NT-Xent, forward and
# backward, d = 128, in milliseconds on one core, dense / tiled: B = 128: 1.4 / 1.5; B = 256 (2^18 pairs): 4.3 / 4.0;
# B = 512: 17.6 / 15.6; B = 2,048: 583 / 263; B = 8,192: 11,400 / 4,500. With the Laplacian kernel, tiles become faster
# at the same size.
DENSE_PAIRS = 2**18
# Pairs in one tile: 4 MiB in float32, and about five such matrices exist at a time. Sizes from 2^19 to 2^21 are equally
# fast.
TILE_PAIRS = 2**20
# On a GPU this is both the limit of the dense matrix and the size of a tile: 64 MiB in float32. It has not been tuned
# by measurement yet. Smaller tiles would spend more time on kernel launches than on work, and tiles make torch.compile
# break its graph.
GPU_PAIRS = 2**24


def mean_log_sum(
    rows: Tensor,
    columns: Tensor,
    log_kernel: LogKernel,
    left_out: Tensor,
    log_weight: Tensor | None = None,
    extra: Tensor | None = None,
) -> Tensor:
    """Return mean_i log [sum_k exp(log_kernel(rows_i . columns_k) + log_weight_k) + exp(extra_i)], a scalar.

    The sum over k runs over all columns except those in left_out_i.
    rows: (n, d). columns: (m, d). log_kernel: log K as an elementwise function of the inner product.
    left_out: int64 (n, any number), the columns that each row skips. log_weight: (m,), the log of each column's weight,
    without gradient. extra: (n,), the log of one more candidate for each row.
    Above DENSE_PAIRS pairs (on a GPU above GPU_PAIRS) the matrix is made tile by tile, so that memory is linear in n
    and m instead of quadratic.
    """
    if len(rows) * len(columns) > (GPU_PAIRS if rows.is_cuda else DENSE_PAIRS):
        out: Tensor = _Tiled.apply(rows, columns, log_kernel, left_out, log_weight, extra)
        return out
    sums = _logits(rows @ columns.T, log_kernel, left_out, log_weight).logsumexp(1)
    return (sums if extra is None else torch.logaddexp(sums, extra)).mean()


def _logits(cosine: Tensor, log_kernel: LogKernel, left_out: Tensor, log_weight: Tensor | None) -> Tensor:
    """Return the terms of the sum as logarithms, with -inf for the columns that a row skips."""
    logits = log_kernel(cosine)
    if log_weight is not None:
        logits = logits + log_weight
    return logits.scatter_(1, left_out, -torch.inf)


class _Tiled(torch.autograd.Function):
    """`mean_log_sum` for a block of rows against all columns at a time, with value and gradient in one pass.

    The gradient of a mean is known before the backward pass except for one factor. The gradient of each tile is
    therefore computed in the forward pass, while the tile exists, and only tensors as large as rows and columns are
    kept. Recomputing the tiles in the backward pass would need a third matrix product and every exponential twice.
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
            # From here on `share` is overwritten in place, because a tile should stay in the CPU's cache: first the
            # logits, then their exponentials relative to the row's maximum `top` (the usual stable log-sum-exp).
            share = logits.detach()
            top = share.amax(1) if extra is None else torch.maximum(share.amax(1), extra[tile])
            share.sub_(top[:, None]).exp_()
            sums = share.sum(1)
            if extra is not None and grad_extra is not None:
                one_more = (extra[tile] - top).exp_()
                sums += one_more
                torch.div(one_more, sums, out=grad_extra[tile])
            total += (sums.log() + top).sum()
            # Autograd multiplies by the derivative of the kernel. The division by the sums, which turns exponentials
            # into softmax weights, is done in the narrow (rows, d) matrices because that is cheaper than in the tile.
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
    """Return the tiled log-sum that large batches use, of one view against the other, without each row's own column."""
    own = torch.arange(len(z1), device=z1.device)[:, None]
    loss: Tensor = _Tiled.apply(unit(z1), unit(z2), lambda cosine: cosine / 0.2, own, None, None)
    return loss


EXAMPLES = {"nt_xent, in tiles": Example(_in_tiles, timed=False)}
