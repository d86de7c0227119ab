"""LARS against its definition, one parameter at a time; the schedule; what is decayed."""

import copy
import math

import pytest
import torch
from torch import nn

from methods import optim
from methods.optim import LARS, Optim, lr_at


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))


@pytest.mark.parametrize(
    ("trust", "clip", "everything"), [(0.001, False, False), (0.02, True, False), (0.5, True, False), (0.001, 0, True)]
)
def test_lars_follows_its_definition(trust, clip, everything):
    """You et al. 2017 as a loop over parameters in float64, five steps."""
    model = network().double()
    settings = Optim(name="lars", lr=0.3, momentum=0.9, weight_decay=0.01, trust=trust, clip=clip, decay_all=everything)
    optimiser = optim.build(settings, model)
    weights = [p.detach().clone() for p in model.parameters()]
    buffers = [torch.zeros_like(w) for w in weights]
    for step in range(5):
        torch.manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        for i, parameter in enumerate(model.parameters()):
            update = parameter.grad.clone()
            if weights[i].ndim > 1 or everything:
                update += 0.01 * weights[i]
                if weights[i].norm() > 0:
                    ratio = trust * weights[i].norm() / update.norm()
                    update *= min(ratio / 0.3, 1) if clip else ratio
            buffers[i] = 0.9 * buffers[i] + update
            weights[i] = weights[i] - 0.3 * buffers[i]
        optimiser.step()
    for parameter, expected in zip(model.parameters(), weights, strict=True):
        assert torch.allclose(parameter, expected, rtol=1e-12)


def test_lars_with_a_zero_weight_or_gradient_steps_plainly():
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([zero, still], lr=0.5).step()
    assert torch.equal(zero, torch.full((2, 2), -0.5)) and torch.equal(still, torch.ones(2, 2))


def test_lars_state_survives_saving():
    model, twin = network(), network()
    first, second = (optim.build(Optim(name="lars", lr=0.1), m) for m in (model, twin))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    first.step()
    twin.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for m, o in ((model, first), (twin, second)):
        for parameter in m.parameters():
            parameter.grad = torch.ones_like(parameter)
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(("decay_all", "decayed"), [(False, 2), (True, 6)])
def test_biases_and_norms_are_decayed_only_on_request(decay_all, decayed):
    optimiser = optim.build(Optim(weight_decay=0.1, decay_all=decay_all), network())
    assert sum(len(group["params"]) for group in optimiser.param_groups if group["weight_decay"]) == decayed
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 6


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_every_optimiser_lowers_a_loss(name):
    model = network()
    optimiser = optim.build(Optim(name=name, lr={"sgd": 0.1, "lars": 5.0, "adamw": 0.01}[name]), model)
    x, y = torch.randn(32, 6), torch.randint(0, 4, (32,))
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]


def test_the_schedule():
    settings = Optim(lr=2.0, warmup_epochs=4)
    assert [lr_at(settings, epoch, 20) for epoch in (0, 1, 4, 20, 25)] == pytest.approx([0, 0.5, 2, 0, 0])
    assert lr_at(settings, 12, 20) == pytest.approx(1.0)
    assert lr_at(settings, 8, 20) == pytest.approx(1 + math.cos(math.pi / 4))
    assert lr_at(Optim(lr=2.0), 0, 20) == 2.0
    ends = Optim(lr=2.0, floor=0.001)  # VICReg's: the cosine ends at a thousandth
    assert [lr_at(ends, epoch, 20) for epoch in (0, 10, 20)] == pytest.approx([2, 1.001, 0.002])
