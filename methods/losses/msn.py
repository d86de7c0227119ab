"""The losses of masked Siamese networks (MSN) and of prior matching (PMSN).

An assignment is a distribution over K prototypes. The loss asks two things of the V views of each of B images, called
the anchors: each anchor should be assigned like another view of its image, the target, and the mean assignment of all
anchors should match a prior over the prototypes. Assignments are kept as log-probabilities throughout, so that no
prototype's share can underflow to a 0 that is then divided by.
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
    """Return the loss, cross entropy + weight * divergence + entropy_weight * entropy, with its terms for logging.

    Let p be the anchors' assignments, p+ the targets', pbar the mean of p over the views and the images of all ranks,
    and pi the prior. The result has these float32 scalars (float64 for float64 input):
    loss: the weighted sum above. cross_entropy: mean H(p+, p). divergence: KL(pbar, pi) if `divergence` is "to-prior",
    KL(pi, pbar) if it is "from-prior". entropy: mean H(p). mean_entropy: H(pbar), which is log K when all prototypes
    are used equally and 0 when all images share one.

    anchors: (V, B, d), any floating dtype, not normalized. target: (B, K), probabilities without gradient, from
    `targets`. prototypes: (K, d), not normalized. prior: (K,), all above 0, with sum 1. temperature: tau > 0.
    weight: lambda, >= 0. entropy_weight: >= 0.
    With the uniform prior this is MSN, whose me-max term -H(pbar) + log K equals KL(pbar, uniform). With any other
    prior it is PMSN.
    Source: Assran et al. 2022, equation 1, and src/losses.py of the official code. Assran et al. 2023 replace the
    prior; which direction their KL has could not be read: stable-pretraining uses KL(pbar, pi), as MSN does, and
    lightly uses KL(pi, pbar).
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
    """Return the targets' assignments, probabilities (B, K) without gradient.

    The embeddings are assigned to the prototypes, the assignments are sharpened, and `iterations` steps of Sinkhorn
    balance them over the batch (no balancing if it is 0).
    z: (B, d), any floating dtype, not normalized. prototypes: (K, d). marginal: (K,), all above 0, with sum 1: the
    share of the batch that Sinkhorn gives each prototype. temperature: tau > 0. sharpening: T in (0, 1], which turns p
    into p^(1/T), renormalized.
    Source: Assran et al. 2022, section 3; src/losses.py of the official code.
    """
    checks.embeddings(z=z)
    checks.prototypes(prototypes, z.shape[1])
    checks.distribution("marginal", marginal, len(prototypes))
    checks.positive("temperature", temperature)
    checks.positive("sharpening", sharpening)
    # Sharpening p -> p^(1/T) divides the logarithm by T.
    log_p = F.log_softmax(assign(z, prototypes, temperature) / sharpening, dim=-1)
    return sinkhorn(log_p, marginal, iterations).exp()


def assign(z: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Return the assignments as log-probabilities (..., K), the log-softmax of the cosines divided by the temperature.

    z: (..., d). prototypes: (K, d). Neither needs to be normalized.
    """
    return F.log_softmax(unit(z) @ unit(prototypes).T / temperature, dim=-1)


def sinkhorn(log_p: Tensor, marginal: Tensor, iterations: int) -> Tensor:
    """Balance assignments over the batch: return log-probabilities (B, K) whose mean over all ranks nears `marginal`.

    Each iteration scales the columns to the marginal, (K,), and then each row back to sum 1. The official code divides
    by the total first, which its first iteration undoes.
    Source: `distributed_sinkhorn` of the official code, for the uniform marginal. Other marginals are PROPOSED by this
    project.
    """
    log_marginal = marginal.to(log_p).log()
    for _ in range(iterations):
        log_p = F.log_softmax(log_p - mean_over_batch(log_p) + log_marginal, dim=-1)
    return log_p


def mean_over_batch(log_p: Tensor) -> Tensor:
    """Return the log of the mean probability, (K,), over the rows (N, K) of all ranks; differentiable.

    Each rank sends only K numbers, the sums of its own rows. As in every loss, the gradient of the mean over the ranks
    is the gradient of the joined batch (`losses/gather.py`).
    """
    return gather(log_p.logsumexp(0)[None]).logsumexp(0) - math.log(len(log_p) * world())


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence KL(p, q) = sum p (log p - log q) of two distributions (K,), a scalar."""
    return (log_p.exp() * (log_p - log_q)).sum()


PROTOTYPES = 1024  # number of prototypes when the loss is timed


def _example(z1: Tensor, z2: Tensor, prior: Tensor, divergence: Divergence) -> Tensor:
    """Return the loss with view 1 as the anchors, view 2 as the target, and as many prototypes as images."""
    to = -z1.detach()
    return msn(z1[None], targets(z2, to, prior, iterations=3), to, prior, divergence=divergence)["loss"]


def _at_scale(dim: int, device: torch.device) -> Loss:
    """Return the loss to time: one view serves as the anchors, the other as the target, which has no gradient."""
    to, prior = _prototypes(dim, device), uniform(PROTOTYPES).to(device)
    return lambda z1, z2, label: msn(z1[None], targets(z2, to, prior, iterations=3), to, prior)["loss"]


def _prototypes(dim: int, device: torch.device) -> Tensor:
    """Return random prototypes, the same ones for our loss and for lightly's."""
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
