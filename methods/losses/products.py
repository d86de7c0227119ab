"""Sums of squared inner products, computed through whichever matrix is smaller: the products or the Gram matrices."""

import torch
from torch import Tensor


def squared_products(rows: Tensor, columns: Tensor, own: Tensor) -> Tensor:
    """Return the sum over i and k != own_i of (rows_i . columns_k)^2, a scalar.

    rows: (n, w). columns: (m, w). own: int64 (n,), the column that each row skips.
    If n * m is larger than w * w, the sum over all pairs is computed as the inner product
    <rows^T rows, columns^T columns>, and the skipped pairs are subtracted. VICReg's covariance of 8,192 features over
    256 images then needs two matrices of 256 x 256 instead of one of 8,192 x 8,192.
    """
    if len(rows) * len(columns) <= rows.shape[1] ** 2:
        return (rows @ columns.T).scatter(1, own[:, None], 0).square().sum()
    everything = ((rows.T @ rows) * (columns.T @ columns)).sum()
    return everything - (rows * columns[own]).sum(1).square().sum()


def squared_off_diagonal(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of the squared off-diagonal entries of a^T b, a scalar. a, b: (N, D)."""
    return squared_products(a.T, b.T, torch.arange(a.shape[1], device=a.device))
