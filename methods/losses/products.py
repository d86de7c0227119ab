"""Sums of squared inner products, by whichever matrix is the smaller one."""

import torch
from torch import Tensor


def squared_products(rows: Tensor, columns: Tensor, own: Tensor) -> Tensor:
    """sum over i and k != own_i of (rows_i . columns_k)^2.

    rows: (n, w). columns: (m, w). own: int64 (n,). Where n * m is more than w * w, the sum over all pairs is taken as
    <rows^T rows, columns^T columns>, from which the pairs left out are subtracted: VICReg's covariance of 8,192
    variables over 256 images then needs two matrices of 256 x 256 instead of one of 8,192 x 8,192.
    """
    if len(rows) * len(columns) <= rows.shape[1] ** 2:
        return (rows @ columns.T).scatter(1, own[:, None], 0).square().sum()
    everything = ((rows.T @ rows) * (columns.T @ columns)).sum()
    return everything - (rows * columns[own]).sum(1).square().sum()


def squared_off_diagonal(a: Tensor, b: Tensor) -> Tensor:
    """a, b: (N, D). The sum of the squares of a^T b off its diagonal."""
    return squared_products(a.T, b.T, torch.arange(a.shape[1], device=a.device))
