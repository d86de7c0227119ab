"""Weighted k-nearest neighbours (Wu et al. 2018, section 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def knn_top1(
    bank: Tensor, bank_label: Tensor, query: Tensor, query_label: Tensor, *, k: int = 200, temperature: float = 0.1
) -> float:
    """Top-1 in percent of a vote of the k nearest by cosine, each weighted by exp(cosine / temperature). Exact.

    bank: float (N, D); query: float (Q, D); labels int64. k is cut to N. The defaults are lightly's.
    ValueError for an empty bank or query, or features that are not finite.
    """
    for name, features in (("bank", bank), ("query", query)):
        if len(features) == 0 or not features.isfinite().all():
            raise ValueError(f"kNN: the {name} features are empty or not finite")
    bank, query = F.normalize(bank.float(), dim=1), F.normalize(query.float(), dim=1)
    classes = int(bank_label.max()) + 1
    right = 0
    for rows, label in zip(query.split(1024), query_label.split(1024), strict=True):  # 1,024 x N similarities at a time
        similarity, nearest = (rows @ bank.T).topk(min(k, len(bank)), dim=1)
        votes = torch.zeros(len(rows), classes)
        votes.scatter_add_(1, bank_label[nearest], (similarity / temperature).exp())
        right += int((votes.argmax(1) == label).sum())
    return 100 * right / len(query)
