"""Every loss written out as its paper defines it, in float64 and one pair at a time: slow, but hard to get wrong.

CASES: name -> (ours, definition), both functions of (z1, z2, label), with settings that are not defaults.
"""

import math
from typing import NamedTuple

import torch

from twoview.methods.losses.balanced import balanced
from twoview.methods.losses.barlow import barlow
from twoview.methods.losses.byol import byol
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.kernel import concat, kernel_infonce, kernel_sum, mixed_kernel
from twoview.methods.losses.moco import moco, moco_sum
from twoview.methods.losses.msn import msn, targets
from twoview.methods.losses.priors import power_law, uniform
from twoview.methods.losses.spectral import spectral
from twoview.methods.losses.supcon import supcon
from twoview.methods.losses.vicreg import vicreg

PRIOR = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)  # of three classes


class Case(NamedTuple):
    ours: object
    definition: object
    symmetric: bool = True  # in the two views
    scale_free: bool = True  # the length of an embedding does not matter
    stopped: bool = False  # the second view gets no gradient


def unit(z):
    return z.double() / z.double().norm(dim=1, keepdim=True)


def distance(a, b):
    """The distance of two vectors, 0 if they are equal."""
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def log_of_sum(logs):
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs))


def all_pairs(z1, z2, log_kernel):
    """Mean over the 2B rows of -log K(i, i+) / sum_{k != i} K(i, k); log_kernel of two vectors."""
    z, n = torch.cat([z1, z2]), 2 * len(z1)
    total = 0.0
    for i in range(n):
        logs = {k: log_kernel(z[i], z[k]) for k in range(n) if k != i}
        total += log_of_sum(logs.values()) - logs[(i + n // 2) % n]
    return total / n


def cosine_kernel(temperature):
    return lambda a, b: float(a @ b) / temperature


def distance_kernel(gamma, temperature):
    return lambda a, b: -(distance(a, b) ** gamma) / temperature


def nt_xent_definition(z1, z2, temperature):
    return all_pairs(unit(z1), unit(z2), cosine_kernel(temperature))


def kernel_definition(z1, z2, gamma, temperature):
    return all_pairs(unit(z1), unit(z2), distance_kernel(gamma, temperature))


def mixed_definition(z1, z2, gammas, temperatures, weight):
    kernels = [distance_kernel(g, t) for g, t in zip(gammas, temperatures, strict=True)]

    def log_kernel(a, b):
        return log_of_sum([math.log(weight) + kernels[0](a, b), math.log(1 - weight) + kernels[1](a, b)])

    return all_pairs(unit(z1), unit(z2), log_kernel)


def concat_definition(z1, z2, gammas, temperatures, weight, joint):
    if joint:
        z1, z2 = unit(z1), unit(z2)
    total = 0.0
    for half, gamma, temperature, share in zip(range(2), gammas, temperatures, (weight, 1 - weight), strict=True):
        a, b = (z.double().chunk(2, dim=1)[half] for z in (z1, z2))
        if not joint:
            a, b = unit(a), unit(b)
        total += share * all_pairs(a, b, distance_kernel(gamma, temperature))
    return total


def balanced_definition(z1, z2, temperature, nu, lam, include_positive, weights):
    z, n = torch.cat([unit(z1), unit(z2)]), 2 * len(z1)
    total = 0.0
    for i in range(n):
        other = (i + n // 2) % n
        positive = float(z[i] @ z[other]) / temperature
        logs = [
            float(z[i] @ z[k]) / temperature + math.log(weights[k % len(z1)]) for k in range(n) if k not in (i, other)
        ]
        total += lam * log_of_sum([*logs, positive] if include_positive else logs) - nu * positive
    return total / n


def moco_definition(query, key, queue, temperature, gamma, include_positive):
    kernel = distance_kernel(gamma, temperature)
    total = 0.0
    for q, k in zip(unit(query), unit(key), strict=True):
        logs = [kernel(q, old) for old in unit(queue)]
        total += log_of_sum([*logs, kernel(q, k)] if include_positive else logs) - kernel(q, k)
    return total / len(query)


def supcon_definition(z1, z2, label, temperature):
    z, n = torch.cat([unit(z1), unit(z2)]), 2 * len(z1)
    labels = [int(y) for y in label] * 2
    total = 0.0
    for i in range(n):
        logs = {k: float(z[i] @ z[k]) / temperature for k in range(n) if k != i}
        same = [logs[k] for k in logs if labels[k] == labels[i]]
        total += log_of_sum(logs.values()) - sum(same) / len(same)
    return total / n


def spectral_definition(z1, z2):
    z1, z2, n = unit(z1), unit(z2), len(z1)
    attract = sum(float(z1[i] @ z2[i]) for i in range(n)) / n
    repel = sum(float(z1[i] @ z2[k]) ** 2 for i in range(n) for k in range(n) if i != k) / (n * (n - 1))
    return repel - 2 * attract


def vicreg_terms(z1, z2):
    """invariance, variance and covariance, unweighted."""
    n, d = z1.shape
    views = [z.double().tolist() for z in (z1, z2)]
    invariance = sum((views[0][i][j] - views[1][i][j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    variance = covariance = 0.0
    for z in views:
        mean = [sum(z[i][j] for i in range(n)) / n for j in range(d)]
        for j in range(d):
            for k in range(d):
                cov = sum((z[i][j] - mean[j]) * (z[i][k] - mean[k]) for i in range(n)) / (n - 1)
                if j == k:
                    variance += max(0.0, 1 - math.sqrt(cov + 1e-4)) / d / 2
                else:
                    covariance += cov**2 / d
    return invariance, variance, covariance


def vicreg_definition(z1, z2, *weights):
    return sum(weight * term for weight, term in zip(weights, vicreg_terms(z1, z2), strict=True))


def barlow_definition(z1, z2, off_diagonal):
    n, d = z1.shape
    columns = []
    for z in (z1, z2):
        columns.append([])
        for column in z.double().T.tolist():
            mean = sum(column) / n
            std = math.sqrt(sum((x - mean) ** 2 for x in column) / n + 1e-5)
            columns[-1].append([(x - mean) / std for x in column])
    total = 0.0
    for j in range(d):
        for k in range(d):
            c = sum(a * b for a, b in zip(columns[0][j], columns[1][k], strict=True)) / n
            total += (1 - c) ** 2 if j == k else off_diagonal * c**2
    return total


def byol_definition(prediction, target):
    return sum(distance(p, t) ** 2 for p, t in zip(unit(prediction), unit(target), strict=True)) / len(prediction)


def assignments(z, prototypes, temperature):
    """Rows of probabilities, as lists."""
    rows = []
    for row in unit(z.detach()):
        weights = [math.exp(float(row @ q) / temperature) for q in unit(prototypes.detach())]
        rows.append([weight / sum(weights) for weight in weights])
    return rows


def target_definition(z, prototypes, marginal, temperature, sharpening, iterations):
    """MSN's targets, (B, K): sharpened, and balanced as `distributed_sinkhorn` of the official code does it."""
    rows = [[p ** (1 / sharpening) for p in row] for row in assignments(z, prototypes, temperature)]
    rows = [[p / sum(row) for p in row] for row in rows]
    for _ in range(iterations):
        sums = [sum(column) for column in zip(*rows, strict=True)]
        rows = [[p / s * float(m) for p, s, m in zip(row, sums, marginal, strict=True)] for row in rows]
        rows = [[p / sum(row) for p in row] for row in rows]
    return torch.tensor(rows, dtype=torch.float64)


def msn_terms(anchors, target, prototypes, prior, temperature):
    """cross_entropy, entropy, mean_entropy and the divergence to and from the prior. anchors: a list of (B, d)."""
    views = [assignments(anchor, prototypes, temperature) for anchor in anchors]
    rows = [row for view in views for row in view]
    n, k = len(rows), len(prototypes)
    mean = [sum(row[j] for row in rows) / n for j in range(k)]
    cross = -sum(float(target[i % len(target)][j]) * math.log(rows[i][j]) for i in range(n) for j in range(k)) / n
    return {
        "cross_entropy": cross,
        "entropy": -sum(p * math.log(p) for row in rows for p in row) / n,
        "mean_entropy": -sum(p * math.log(p) for p in mean),
        "to-prior": sum(p * math.log(p / float(pi)) for p, pi in zip(mean, prior, strict=True)),
        "from-prior": sum(float(pi) * math.log(float(pi) / p) for p, pi in zip(mean, prior, strict=True)),
    }


def msn_definition(anchors, z, prototypes, prior, marginal, direction):
    target = target_definition(z, prototypes, marginal, 0.3, 0.5, 3)
    terms = msn_terms(anchors, target, prototypes, prior, 0.3)
    return terms["cross_entropy"] + 0.7 * terms[direction] + 0.2 * terms["entropy"]


def msn_ours(anchors, z, prototypes, prior, marginal, direction):
    target = targets(z, prototypes, marginal, 0.3, 0.5, 3)
    return msn(torch.stack(anchors), target, prototypes, prior, 0.3, 0.7, 0.2, direction)["loss"]


def two_anchors(z):
    return [z, z.flip(1)]


def prototypes(z):
    """5 prototypes, with the same numbers in every dtype."""
    drawn = torch.randn(5, z.shape[1], generator=torch.Generator().manual_seed(2))
    return drawn.bfloat16().to(z.dtype)


def queue(z):
    """17 old keys, with the same numbers in every dtype."""
    keys = torch.randn(17, z.shape[1], generator=torch.Generator().manual_seed(1))
    return keys.bfloat16().to(z.dtype)


def share(label):
    """n pi_y of each image."""
    return (len(PRIOR) * PRIOR)[label]


GAMMAS, TEMPERATURES, WEIGHT = (1.0, 2.0), (0.3, 0.7), 0.2
MIXTURE = (GAMMAS, TEMPERATURES, WEIGHT)
CASES = {
    "nt_xent": Case(lambda a, b, y: nt_xent(a, b, 0.3), lambda a, b, y: nt_xent_definition(a, b, 0.3)),
    **{
        f"kernel_infonce-{gamma}": Case(
            lambda a, b, y, gamma=gamma: kernel_infonce(a, b, gamma, 0.3),
            lambda a, b, y, gamma=gamma: kernel_definition(a, b, gamma, 0.3),
        )
        for gamma in (2, 1.5, 1, 0.5, 0.25)
    },
    "kernel_sum": Case(
        lambda a, b, y: kernel_sum(a, b, *MIXTURE),
        lambda a, b, y: WEIGHT * kernel_definition(a, b, 1, 0.3) + (1 - WEIGHT) * kernel_definition(a, b, 2, 0.7),
    ),
    "mixed_kernel": Case(
        lambda a, b, y: mixed_kernel(a, b, *MIXTURE), lambda a, b, y: mixed_definition(a, b, *MIXTURE)
    ),
    **{
        f"concat-{joint}": Case(
            lambda a, b, y, joint=joint: concat(a, b, *MIXTURE, joint),
            lambda a, b, y, joint=joint: concat_definition(a, b, *MIXTURE, joint),
        )
        for joint in (True, False)
    },
    **{
        f"balanced-{include}": Case(
            lambda a, b, y, include=include: balanced(a, b, 0.3, 0.7, 1.6, include, share(y).log()),
            lambda a, b, y, include=include: balanced_definition(a, b, 0.3, 0.7, 1.6, include, (1 / share(y)).tolist()),
        )
        for include in (True, False)
    },
    "moco": Case(
        lambda a, b, y: moco(a, b, queue(a), 0.3, 1.0),
        lambda a, b, y: moco_definition(a, b, queue(a), 0.3, 1.0, True),
        symmetric=False,
    ),
    "moco_sum": Case(
        lambda a, b, y: moco_sum(a, b, queue(a), *MIXTURE),
        lambda a, b, y: (
            WEIGHT * moco_definition(a, b, queue(a), 0.3, 1, False)
            + (1 - WEIGHT) * moco_definition(a, b, queue(a), 0.7, 2, False)
        ),
        symmetric=False,
    ),
    "supcon": Case(lambda a, b, y: supcon(a, b, y, 0.3), lambda a, b, y: supcon_definition(a, b, y, 0.3)),
    "spectral": Case(lambda a, b, y: spectral(a, b), lambda a, b, y: spectral_definition(a, b)),
    "vicreg": Case(
        lambda a, b, y: vicreg(a, b, 20, 30, 2)["loss"],
        lambda a, b, y: vicreg_definition(a, b, 20, 30, 2),
        scale_free=False,
    ),
    "barlow": Case(lambda a, b, y: barlow(a, b, 0.01), lambda a, b, y: barlow_definition(a, b, 0.01), scale_free=False),
    "byol": Case(lambda a, b, y: byol(a, b), lambda a, b, y: byol_definition(a, b)),
    **{
        name: Case(
            lambda a, b, y, rest=rest: msn_ours(two_anchors(a), b, prototypes(a), *rest),
            lambda a, b, y, rest=rest: msn_definition(two_anchors(a), b, prototypes(a), *rest),
            symmetric=False,
            stopped=True,
        )
        for name, rest in {
            "msn": (uniform(5), uniform(5), "to-prior"),
            "pmsn": (power_law(5, 0.8), power_law(5, 0.8), "to-prior"),
            "pmsn-from-prior": (power_law(5, 0.8), uniform(5), "from-prior"),
        }.items()
    },
}
