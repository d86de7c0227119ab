"""The online linear probe: it learns by the gradient of its definition, and does not affect the training."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twoview.loaders.views import View
from twoview.methods import optim
from twoview.methods.encoder import Encoder
from twoview.methods.method import Method
from twoview.methods.probes.online import MOMENTUM, RATE, Online
from twoview.methods.simclr import SimCLR, SimCLROptions

VIEWS = (View(8), View(8))


def method():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return SimCLR(SimCLROptions(hidden=16, projection=8), Encoder(body, 12), VIEWS, 3)


def batches(count=40, size=30):
    """Yield images whose color is their label, with noise, in two views."""
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        label = torch.randint(3, (size,), generator=random)
        image = F.one_hot(label, 3).float()[:, :, None, None].expand(size, 3, 8, 8)
        yield tuple(image + torch.randn(image.shape, generator=random) for _ in range(2)), label


def trained(one):
    optimizer = optim.build(optim.Optim(lr=0.1), one)
    logs = []
    for views, label in batches():
        out = one.loss(views, label)
        out["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        logs.append({name: value.detach() for name, value in out.items()})
    return logs


def test_the_training_is_the_same_to_the_bit_and_the_head_learns(one_thread):
    plain, watched = method(), Online(method(), 3)
    losses, logs = trained(plain), trained(watched)
    assert [float(log["loss"]) for log in losses] == [float(log["loss"]) for log in logs]
    for name, weights in plain.state_dict().items():
        assert torch.equal(weights, watched.state_dict()[f"method.{name}"])
    assert set(logs[0]) == set(losses[0]) | {"online_loss", "online_top1"}
    assert float(logs[0]["online_loss"]) == pytest.approx(torch.tensor(3.0).log())
    assert torch.stack([log["online_top1"] for log in logs[-10:]]).mean() > 0.9
    assert not any(parameter.requires_grad for parameter in (watched.weight, watched.bias))


def test_the_head_is_torchs_sgd_on_its_cross_entropy():
    watched = Online(method(), 3)
    head = nn.Linear(12, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.SGD(head.parameters(), RATE, MOMENTUM)
    for (features, _), label in batches(6):
        features = features.flatten(1)[:, :12] * 3 + 1
        loss = F.cross_entropy(head(F.batch_norm(features, None, None, training=True)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out = watched.learn(features, label)
        assert float(out["online_loss"]) == pytest.approx(float(loss.detach()), abs=1e-6)
    assert torch.allclose(watched.weight, head.weight.T, atol=1e-6)
    assert torch.allclose(watched.bias, head.bias, atol=1e-6)


def test_it_is_the_method_that_it_watches_in_all_else():
    watched = Online(method(), 3)
    assert (watched.views, watched.masks, watched.exempt) == (VIEWS, (), ())
    x = torch.randn(2, 3, 8, 8)
    watched.eval()
    assert torch.equal(watched.encode(x), watched.method.encode(x)) and watched.encoder is watched.method.encoder
    names = [name for name, _ in watched.named_parameters()]
    assert len(names) == len(set(names)) and all(name.startswith("method.") for name in names)
    copied = copy.deepcopy(watched)
    copied.load_state_dict(watched.state_dict())
    copied.train().loss(*next(batches(1)))
    assert copied.weight.abs().sum() > 0 and watched.weight.abs().sum() == 0, "a copy watches its own encoder"


class Hiding(Method):
    """A method that does not call its encoder but uses the ViT inside, as masked autoencoders do."""

    def loss(self, views, label, masks=()):
        return {"loss": self.encoder.tokens(views[0]).square().mean()}


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_the_representation_of_a_vit_is_seen(pool):
    from twoview.methods.vit import ViT

    torch.manual_seed(0)
    watched = Online(Hiding(ViT(16, 2, 2, 4, 8, pool=pool), (View(8),)), 3)
    seen = []
    learn = watched.learn
    watched.learn = lambda features, label: seen.append(features) or learn(features, label)
    views, label = next(batches(1))
    watched.loss(views[:1], label)
    assert torch.equal(seen[0], watched.encode(views[0]).detach())
