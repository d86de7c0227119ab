"""The balanced contrastive loss and debiased prototypes (Lee 2025).

The paper itself could not be read, so the formula below is inferred from descriptions of it. Start from the supervised
objective -s(z, mu_y) + lambda max_{y' != y} s(z, mu_y'), where s is a similarity and mu_y the prototype of class y.
Replace the prototype by the mean over one image's views. The result is bounded by
-nu s(z, z+) + (lambda / alpha) log sum_k exp(alpha s(z, z_k)), and with alpha = 1 / tau this bound is `balanced`.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.classes import class_sums
from twoview.methods.losses.example import Example, Lightly
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.gather import gather, rank_offset
from twoview.methods.losses.log_sum import mean_log_sum
from twoview.methods.losses.pairs import pairs, unit

Similarity = Literal["cosine", "dot", "distance"]


@float32
def balanced(
    z1: Tensor,
    z2: Tensor,
    temperature: float,
    nu: float = 1.0,
    lam: float = 1.0,
    include_positive: bool = True,
    log_prior: Tensor | None = None,
    similarity: Similarity = "cosine",
) -> Tensor:
    """Return the contrastive loss with separate weights for attraction and repulsion.

    loss_i = -nu s(z_i, z_i+) / tau + lam log sum_k w_k exp(s(z_i, z_k) / tau), averaged over this rank's 2B
    embeddings. s is the similarity, and k runs over the embeddings of all ranks, except i itself and, unless
    include_positive is set, its positive i+.
    With the cosine similarity and (nu, lam, include_positive) = (1, 1, True) this is NT-Xent; with (1, 1, False) it is
    the decoupled contrastive loss (Yeh et al. 2021, without its weights).

    z1, z2: (B, d), any floating dtype, not normalized. z2 may hold prototypes instead of embeddings.
    temperature: tau > 0. nu, lam: weights of attraction and repulsion, >= 0.
    log_prior: (B,), log(n pi_y) of each image's class y, for data whose class imbalance is known; n is the number of
    classes and pi_y the share of class y in the dataset. Each negative then has the weight w = 1 / (n pi_y), as if all
    classes were equally frequent, and the positive has the weight 1. All zeros (balanced data) change nothing.
    similarity: "cosine" is z . z' of the embeddings scaled to unit length; "dot" is z . z' of the embeddings as given;
    "distance" is -|z - z'|^2 / 2 of the embeddings as given, which for unit vectors is the cosine minus 1.
    Returns a float32 scalar. Raises ValueError for arguments outside these ranges, wrong shapes or an unknown
    similarity and, on a CPU outside compiled code, for values that are not finite.
    Source: inferred from descriptions of Lee 2025, since the paper itself could not be read. nu and include_positive as
    parameters of their own, and the weights w, are proposed by this project and not by the paper.
    """
    checks.embeddings(z1=z1, z2=z2)
    checks.positive("temperature", temperature)
    checks.at_least_zero("nu", nu)
    checks.at_least_zero("lam", lam)
    checks.one_of("similarity", similarity, get_args(Similarity))
    if similarity == "cosine":
        z1, z2 = unit(z1), unit(z2)
    rows, columns, own, positive = pairs(z1, z2)
    attract, of_the_row = (z1 * z2).sum(1), rows.new_zeros(())
    if similarity == "distance":
        # -|a - b|^2 / 2 = (a, 1) . (b, -|b|^2 / 2) - |a|^2 / 2. The last term is the same for all pairs of a row, so
        # it is omitted from the matrix product and accounted for as `of_the_row`.
        attract, of_the_row = -(z1 - z2).square().sum(1) / 2, rows.square().sum(1) / 2
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        columns = torch.cat([columns, -columns.square().sum(1, keepdim=True) / 2], 1)
    attract, of_the_row = attract.repeat(2) / temperature, of_the_row / temperature
    log_weight = None
    if log_prior is not None:
        checks.prior(log_prior, len(z1))
        log_weight = -gather(log_prior.to(rows)).repeat(2)  # log w_k of every column
    left_out = torch.stack([own, positive], 1)
    repel = mean_log_sum(
        rows,
        columns,
        lambda product: product / temperature,
        left_out,
        log_weight,
        extra=attract + of_the_row if include_positive else None,  # separate from the columns: its weight is always 1
    )
    return lam * (repel - of_the_row.mean()) - nu * attract.mean()


@float32
def prototypes(views: Tensor) -> Tensor:
    """Return the debiased positive of each image: the mean of its m views, scaled back to unit length.

    With m = 1 it is the (unit) view itself, as in SimCLR.
    views: (m, B, d), any floating dtype, not normalized. Returns float32 (B, d). The gradient flows through the mean,
    as SimCLR stops no gradient. Raises ValueError for another shape or values that are not finite.
    The paper's own construction could not be read; this one is PROPOSED by this project.
    """
    if views.ndim != 3 or not len(views):
        raise ValueError(f"views must have shape (m, B, d) with m >= 1, got {tuple(views.shape)}")
    checks.finite("views", views)
    return unit(unit(views).mean(0))


@float32
def class_means(z: Tensor, label: Tensor) -> Tensor:
    """Return, for each image, the mean unit embedding of its class in the batch of all ranks.

    The image itself is included in the mean.
    z: (B, d), any floating dtype, not normalized. label: integers (B,). Returns float32 (B, d), not renormalized.
    It has two uses: mixed into the positives, the means make an oracle that knows the labels; compared with the mean
    over an image's views, they give the prototype bias. Raises ValueError for wrong shapes or labels that are not
    integers.
    """
    checks.embeddings(z=z)
    checks.labels(label, len(z))
    sums, counts = class_sums(gather(unit(z)), gather(label))
    start = rank_offset(len(z))
    return (sums / counts[:, None])[start : start + len(z)]


class PrototypeBias(NamedTuple):
    """Two measures of the prototype bias, each a float32 scalar and a mean over the images."""

    squared_distance: Tensor
    one_minus_cosine: Tensor


@float32
def prototype_bias(mean_view: Tensor, class_mean: Tensor) -> PrototypeBias:
    """Return how far the mean over an image's views is from the mean over its class; 0 if the views cover the class.

    mean_view, class_mean: (B, d), means of unit embeddings. The squared distance compares them as given, the cosine
    compares their directions.
    The paper defines the bias as the expected difference of the two. Which norm it uses could not be read, so both
    measures are PROPOSED by this project.
    """
    checks.embeddings(mean_view=mean_view, class_mean=class_mean)
    squared = (mean_view - class_mean).square().sum(1).mean()
    return PrototypeBias(squared, 1 - (unit(mean_view) * unit(class_mean)).sum(1).mean())


EXAMPLES = {
    "balanced": Example(
        lambda z1, z2, label: balanced(z1, z2, 0.2, include_positive=False),
        lightly=Lightly("DCLLoss", lambda dim: {"temperature": 0.2}),
    ),
    "balanced, prior": Example(
        lambda z1, z2, label: balanced(z1, z2, 0.2, 0.5, 2, True, torch.log1p(label.float())), timed=False
    ),
    "balanced, dot": Example(lambda z1, z2, label: balanced(z1, z2, 2.0, similarity="dot"), timed=False),
    "balanced, distance": Example(lambda z1, z2, label: balanced(z1, z2, 2.0, similarity="distance"), timed=False),
    "balanced, prototypes": Example(
        lambda z1, z2, label: balanced(z1, prototypes(torch.stack([z1, z2])), 0.2), timed=False
    ),
    "balanced, oracle": Example(lambda z1, z2, label: balanced(z1, class_means(z2, label), 0.2), timed=False),
}
