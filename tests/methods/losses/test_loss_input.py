"""Bad input raises a ValueError whose one sentence names the argument and its value."""

import pytest
import torch

from twoview.methods.losses.balanced import balanced, class_means, prototype_bias, prototypes
from twoview.methods.losses.barlow import barlow
from twoview.methods.losses.byol import byol
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.losses.kernel import concat, kernel_infonce, kernel_sum, mixed_kernel
from twoview.methods.losses.moco import moco, moco_sum
from twoview.methods.losses.spectral import spectral
from twoview.methods.losses.supcon import supcon
from twoview.methods.losses.vicreg import vicreg

LABEL, QUEUE = torch.arange(6), torch.randn(5, 4)
MIXTURE = ((1.0, 2.0), (0.3, 0.3), 0.5)
# Each with valid settings.
RIGHT = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.1),
    "kernel_infonce": lambda a, b: kernel_infonce(a, b, 1, 0.1),
    "kernel_sum": lambda a, b: kernel_sum(a, b, *MIXTURE),
    "mixed_kernel": lambda a, b: mixed_kernel(a, b, *MIXTURE),
    "concat": lambda a, b: concat(a, b, *MIXTURE, True),
    "balanced": lambda a, b: balanced(a, b, 0.1),
    "moco": lambda a, b: moco(a, b, QUEUE, 0.1),
    "moco_sum": lambda a, b: moco_sum(a, b, QUEUE, *MIXTURE),
    "supcon": lambda a, b: supcon(a, b, LABEL[: len(a)], 0.1),
    "spectral": spectral,
    "vicreg": vicreg,
    "barlow": lambda a, b: barlow(a, b, 0.01),
    "byol": byol,
    "prototype_bias": prototype_bias,
}
every_loss = pytest.mark.parametrize("loss", RIGHT.values(), ids=RIGHT)


@every_loss
def test_a_batch_of_one(loss):
    with pytest.raises(ValueError, match=r"^\w+ holds 1 embedding: a batch needs at least 2$"):
        loss(torch.randn(1, 4), torch.randn(1, 4))


@every_loss
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_embedding_that_is_not_finite(loss, value):
    good, bad = torch.randn(2, 6, 4)
    bad[3, 2] = value
    with pytest.raises(ValueError, match=rf"^(\w+) must be finite, got \1\[3, 2\] = {value}$"):
        loss(good, bad)


@every_loss
def test_views_of_two_shapes(loss):
    complaint = r"embeddings must all have the same shape \(B, d\), got \w+ \(6, 4\) and \w+ \(5, 4\)"
    with pytest.raises(ValueError, match=complaint):
        loss(torch.randn(6, 4), torch.randn(5, 4))


@pytest.mark.parametrize("temperature", [0, -0.5, float("nan")])
@pytest.mark.parametrize(
    "loss",
    [
        nt_xent,
        balanced,
        lambda a, b, t: kernel_infonce(a, b, 1, t),
        lambda a, b, t: kernel_sum(a, b, (1, 2), (0.1, t), 0.5),
        lambda a, b, t: mixed_kernel(a, b, (1, 2), (t, 0.1), 0.5),
        lambda a, b, t: concat(a, b, (1, 2), (0.1, t), 0.5, False),
        lambda a, b, t: moco(a, b, QUEUE, t),
        lambda a, b, t: supcon(a, b, LABEL, t),
    ],
)
def test_temperature(loss, temperature):
    with pytest.raises(ValueError, match=f"^temperature must be above 0, got {temperature}$"):
        loss(*torch.randn(2, 6, 4), temperature)


@pytest.mark.parametrize("gamma", [0, -1, 2.5, float("nan")])
@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, g: kernel_infonce(a, b, g, 0.1),
        lambda a, b, g: kernel_sum(a, b, (g, 2), (0.1, 0.1), 0.5),
        lambda a, b, g: mixed_kernel(a, b, (1, g), (0.1, 0.1), 0.5),
        lambda a, b, g: concat(a, b, (1, g), (0.1, 0.1), 0.5, True),
        lambda a, b, g: moco(a, b, QUEUE, 0.1, g),
    ],
)
def test_gamma(loss, gamma):
    with pytest.raises(ValueError, match=f"^gamma must be above 0 and at most 2, got {gamma}$"):
        loss(*torch.randn(2, 6, 4), gamma)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda z: concat(z[:, :3], z[:, :3], *MIXTURE, True), "z1 is 3 wide: two halves need an even width"),
        (lambda z: kernel_sum(z, z, (1, 2), (0.1, 0.1), 1.5), r"weight must be in \[0, 1\], got 1.5"),
        (lambda z: moco_sum(z, z, QUEUE, (1, 2), (0.1, 0.1), -1), r"weight must be in \[0, 1\], got -1"),
        (lambda z: balanced(z, z, 0.1, nu=-1), "nu must be 0 or above, got -1"),
        (lambda z: balanced(z, z, 0.1, lam=-2), "lam must be 0 or above, got -2"),
        (lambda z: balanced(z, z, 0.1, log_prior=torch.zeros(5)), r"log_prior must have shape \(6,\), got \(5,\)"),
        (lambda z: balanced(z, z, 0.1, log_prior=torch.zeros(6).log()), r"log_prior must be finite, .*\[0\] = -inf"),
        (lambda z: moco(z, z, torch.randn(0, 4), 0.1), r"queue must have shape \(K, 4\) with K >= 1, .* got \(0, 4\)"),
        (lambda z: moco(z, z, torch.randn(5, 3), 0.1), r"queue must have shape \(K, 4\) with K >= 1, .* got \(5, 3\)"),
        (
            lambda z: supcon(z, z, LABEL[:5], 0.1),
            r"label must be whole numbers of shape \(6,\), got \(5,\) of torch.int64",
        ),
        (
            lambda z: class_means(z, LABEL.float()),
            r"label must be whole numbers of shape \(6,\), got \(6,\) of torch.float32",
        ),
        (lambda z: prototypes(z), r"views must have shape \(m, B, d\) with m >= 1, got \(6, 4\)"),
        (lambda z: prototypes(z[None] / 0), r"views must be finite, got views\[0, 0, 0\] = -?inf"),
        (lambda z: vicreg(z, z, variance=-1), "variance must be 0 or above, got -1"),
        (lambda z: barlow(z, z, -1), "off_diagonal must be 0 or above, got -1"),
    ],
)
def test_the_rest(call, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        call(torch.randn(6, 4))
