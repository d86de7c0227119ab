"""Masked Siamese networks and prior matching: views are assigned to prototypes, their mean assignment to a prior.

V views of each of B images, the anchors, are to be assigned as another view of the image, the target, is, and all
anchors together as a prior over the K prototypes says. Assignments are log-probabilities from end to end, so that no
prototype's share can underflow to a 0 that is divided by.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from twoview.methods.losses import checks
from twoview.methods.losses.example import Example, Lightly, Loss
from twoview.methods.losses.float32 import float32
from twoview.methods.losses.gather import gather
from twoview.methods.losses.pairs import unit
from twoview.methods.losses.priors import histogram, uniform
from twoview.methods.ranks import world

Divergence = Literal["to-prior", "from-prior"]


@float32
def msn(
    anchors: Tensor,
    target: Tensor,
    prototypes: Tensor,
    prior: Tensor,
    temperature: float = 0.1,
    weight: float = 1.0,
    entropy_weight: float = 0.0,
    divergence: Divergence = "to-prior",
) -> dict[str, Tensor]:
    """`loss` = cross entropy + weight * divergence + entropy_weight * entropy, and what is worth watching.

    With p the anchors' assignments, p+ the target's, pbar the mean of p over views and all ranks' images, pi the prior:
    cross_entropy: mean H(p+, p). divergence: KL(pbar, pi) to the prior, or KL(pi, pbar) from it. entropy: mean H(p).
    mean_entropy: H(pbar), which is log K where all prototypes are used alike and 0 where all images share one.
    Float32 scalars (float64 of float64 input).

    anchors: (V, B, d), any floating dtype, not normalized. target: (B, K), probabilities without gradient, of
    `targets`. prototypes: (K, d), not normalized. prior: (K,), above 0, of sum 1. temperature: tau > 0.
    With the uniform prior it is MSN, whose me-max term -H(pbar) + log K is KL(pbar, uniform); with another one PMSN.
    Source: Assran et al. 2022, equation 1 and the official code's src/losses.py; Assran et al. 2023 replace the prior.
    The direction of their KL could not be read: stable-pretraining's is to the prior, as MSN's, lightly's from it.
    """
    checks.anchors(anchors)
    checks.prototypes(prototypes, anchors.shape[2])
    checks.target(target, anchors.shape[1], len(prototypes))
    checks.distribution("prior", prior, len(prototypes))
    checks.positive("temperature", temperature)
    checks.at_least_zero("weight", weight)
    checks.at_least_zero("entropy_weight", entropy_weight)
    log_p = assign(anchors, prototypes, temperature)
    log_mean = mean_over_batch(log_p.flatten(0, 1))
    log_prior = prior.to(log_mean).log()
    terms = {
        "cross_entropy": -(target * log_p).sum(-1).mean(),
        "divergence": kl(log_mean, log_prior) if divergence == "to-prior" else kl(log_prior, log_mean),
        "entropy": -(log_p.exp() * log_p).sum(-1).mean(),
    }
    loss = terms["cross_entropy"] + weight * terms["divergence"] + entropy_weight * terms["entropy"]
    return {"loss": loss, **terms, "mean_entropy": -(log_mean.exp() * log_mean).sum()}


@float32
@torch.no_grad()
def targets(
    z: Tensor,
    prototypes: Tensor,
    marginal: Tensor,
    temperature: float = 0.1,
    sharpening: float = 0.25,
    iterations: int = 0,
) -> Tensor:
    """Probabilities (B, K), without gradient: assigned, sharpened and, with iterations above 0, balanced by Sinkhorn.

    z: (B, d), any floating dtype, not normalized. prototypes: (K, d). marginal: (K,), above 0, of sum 1, to which
    Sinkhorn balances. sharpening: T in (0, 1], p -> p^(1/T) renormalized.
    Source: Assran et al. 2022, section 3; the official code's src/losses.py.
    """
    checks.embeddings(z=z)
    checks.prototypes(prototypes, z.shape[1])
    checks.distribution("marginal", marginal, len(prototypes))
    checks.positive("temperature", temperature)
    checks.positive("sharpening", sharpening)
    log_p = F.log_softmax(assign(z, prototypes, temperature) / sharpening, dim=-1)
    return sinkhorn(log_p, marginal, iterations).exp()


def assign(z: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Log-probabilities (..., K), log softmax of the cosines over temperature. z: (..., d). prototypes: (K, d)."""
    return F.log_softmax(unit(z) @ unit(prototypes).T / temperature, dim=-1)


def sinkhorn(log_p: Tensor, marginal: Tensor, iterations: int) -> Tensor:
    """Log-probabilities (B, K) whose mean over all ranks' rows comes near the marginal, (K,), each row again of sum 1.

    An iteration scales the columns to the marginal and then the rows to 1. The official code divides by the total
    first, which the first iteration undoes.
    Source: `distributed_sinkhorn` of the official code, with the uniform marginal; another one is PROPOSED here.
    """
    log_marginal = marginal.to(log_p).log()
    for _ in range(iterations):
        log_p = F.log_softmax(log_p - mean_over_batch(log_p) + log_marginal, dim=-1)
    return log_p


def mean_over_batch(log_p: Tensor) -> Tensor:
    """The logarithm of the mean probability, (K,), over the rows (N, K) of all ranks, differentiable.

    Only K numbers travel: each rank's own sums. As in every loss, the gradient of the ranks' mean is the whole one's.
    """
    return gather(log_p.logsumexp(0)[None]).logsumexp(0) - math.log(len(log_p) * world())


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p, q) = sum p (log p - log q), the Kullback-Leibler divergence of two distributions (K,), a scalar."""
    return (log_p.exp() * (log_p - log_q)).sum()


PROTOTYPES = 1024  # where the loss is timed


def _example(z1: Tensor, z2: Tensor, prior: Tensor, divergence: Divergence) -> Tensor:
    """The first view, as the anchors, assigned as the second is; as many prototypes as images."""
    to = -z1.detach()
    return msn(z1[None], targets(z2, to, prior, iterations=3), to, prior, divergence=divergence)["loss"]


def _at_scale(dim: int, device: torch.device) -> Loss:
    """One view as the anchors, the other as the target, which has no gradient."""
    to, prior = _prototypes(dim, device), uniform(PROTOTYPES).to(device)
    return lambda z1, z2, label: msn(z1[None], targets(z2, to, prior, iterations=3), to, prior)["loss"]


def _prototypes(dim: int, device: torch.device) -> Tensor:
    """The same for ours and for lightly's."""
    return torch.randn(PROTOTYPES, dim, device=device, generator=torch.Generator(device).manual_seed(0))


EXAMPLES = {
    "msn": Example(
        lambda z1, z2, label: _example(z1, z2, uniform(len(z1)).to(z1.device), "to-prior"),
        at_scale=_at_scale,
        lightly=Lightly("MSNLoss", beside=lambda dim, device: {"prototypes": _prototypes(dim, device)}),
    ),
    "pmsn": Example(
        lambda z1, z2, label: _example(z1, z2, histogram(label.bincount(minlength=10), len(z1)), "from-prior"),
        timed=False,
    ),
}
