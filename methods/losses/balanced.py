"""The balanced contrastive loss and debiased prototypes (Lee 2025).

The paper's formula could not be read: what follows is inferred from descriptions of it. The supervised objective
-s(z, mu_y) + lambda max_{y' != y} s(z, mu_y'), with the prototype mu replaced by the mean over one image's views, is
bounded by -nu s(z, z+) + (lambda / alpha) log sum_k exp(alpha s(z, z_k)), which at alpha = 1 / tau is `balanced`.
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
    """Attraction and repulsion weighted separately.

    loss_i = -nu s(z_i, z_i+) / tau + lam log sum_k w_k exp(s(z_i, z_k) / tau), s the similarity, k over all embeddings
    but i and, unless include_positive, i+; the mean over all 2B embeddings. With the cosine it is at (1, 1, True)
    NT-Xent, at (1, 1, False) the decoupled contrastive loss (Yeh et al. 2021, without its weights).

    similarity: "cosine", z . z' of embeddings of unit length; "dot", z . z' of embeddings as they are; "distance",
    -|z - z'|^2 / 2 of embeddings as they are, which for unit length is the cosine less 1.
    z1, z2: (B, d), any floating dtype, not normalized. z2 may hold prototypes. temperature: tau > 0. nu, lam: >= 0.
    log_prior: (B,), log(n pi_y) of each image, n the number of classes and pi_y its class's share of the data set,
    for data whose imbalance is known. A negative then weighs w = 1 / (n pi_y), as if all classes were as frequent; the
    positive weighs 1. All zeros (balanced data) change nothing. Returns a float32 scalar.
    Source: INFERRED from Lee 2025 (see above); the family with nu and include_positive, and the weights, are PROPOSED
    by this project, not by the paper.
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
        # -|a - b|^2 / 2 = (a, 1) . (b, -|b|^2 / 2) - |a|^2 / 2, whose last part is the same for all of a row.
        attract, of_the_row = -(z1 - z2).square().sum(1) / 2, rows.square().sum(1) / 2
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        columns = torch.cat([columns, -columns.square().sum(1, keepdim=True) / 2], 1)
    attract, of_the_row = attract.repeat(2) / temperature, of_the_row / temperature
    log_weight = None
    if log_prior is not None:
        checks.prior(log_prior, len(z1))
        log_weight = -gather(log_prior.to(rows)).repeat(2)
    left_out = torch.stack([own, positive], 1)
    repel = mean_log_sum(
        rows,
        columns,
        lambda product: product / temperature,
        left_out,
        log_weight,
        extra=attract + of_the_row if include_positive else None,  # not among the columns, where it would be weighed
    )
    return lam * (repel - of_the_row.mean()) - nu * attract.mean()


@float32
def prototypes(views: Tensor) -> Tensor:
    """The renormalized mean of m views of each image: the debiased positive. With m = 1 the view itself, as in SimCLR.

    views: (m, B, d), any floating dtype, not normalized. Returns float32 (B, d) of unit length, with gradient: SimCLR
    stops none. The paper's own construction could not be read; this one is PROPOSED.
    """
    if views.ndim != 3 or not len(views):
        raise ValueError(f"views must be (m, B, d) with m >= 1, not {tuple(views.shape)}")
    checks.finite("views", views)
    return unit(unit(views).mean(0))


@float32
def class_means(z: Tensor, label: Tensor) -> Tensor:
    """Of each image the mean of the unit embeddings of its class in the batch over all ranks, itself among them.

    z: (B, d), any floating dtype, not normalized. label: whole numbers (B,). Returns float32 (B, d), not renormalized.
    Mixed into a positive it makes the oracle of `prototypes`; against an image's mean view it shows the bias.
    """
    checks.embeddings(z=z)
    checks.labels(label, len(z))
    sums, counts = class_sums(gather(unit(z)), gather(label))
    start = rank_offset(len(z))
    return (sums / counts[:, None])[start : start + len(z)]


class PrototypeBias(NamedTuple):
    """float32 scalars, means over the images."""

    squared_distance: Tensor
    one_minus_cosine: Tensor


@float32
def prototype_bias(mean_view: Tensor, class_mean: Tensor) -> PrototypeBias:
    """How far the mean over one image's views is from the mean over its class: 0 if its views cover the class.

    mean_view, class_mean: (B, d), means of unit embeddings, compared as they are; the cosine of what they point to.
    That the bias is the expected difference of the two is the paper's; its norm could not be read, both are PROPOSED.
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
