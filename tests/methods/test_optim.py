"""LARS against its definition, one parameter at a time; schedules; weight decay and gradient clipping."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from twoview.methods import optim
from twoview.methods.method import Method
from twoview.methods.optim import LARS, Optim, lr_at, weight_decay_at


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
    optimizer = optim.build(settings, model)
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
        optimizer.step()
    for parameter, expected in zip(model.parameters(), weights, strict=True):
        assert torch.allclose(parameter, expected, rtol=1e-12)


@pytest.mark.parametrize(("decay", "parallel"), [(1e-12, False), (0.1, True), (0.0, False)])
def test_lars_is_lightlys_where_the_conventions_agree(decay, parallel):
    """lightly divides by |g| + decay * |w|, which is the same without decay, and if gradient and weight are parallel.

    It also does not adapt the rate of parameters without decay.
    """
    from lightly.utils.lars import LARS as Theirs

    torch.manual_seed(0)
    one = nn.Parameter(torch.randn(6, 5, dtype=torch.float64))
    other = nn.Parameter(one.detach().clone())
    ours = LARS([{"params": [one], "weight_decay": decay, "adapt": decay > 0}], lr=0.3, momentum=0.9, trust=0.02)
    theirs = Theirs([other], lr=0.3, momentum=0.9, weight_decay=decay, trust_coefficient=0.02, eps=0.0)
    for _ in range(5):
        one.grad = 0.7 * one.detach() if parallel else torch.randn_like(one)
        other.grad = one.grad.clone()
        ours.step()
        theirs.step()
        assert torch.allclose(one, other, rtol=1e-9)


def test_lars_with_a_zero_weight_or_gradient_steps_plainly():
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([zero, still], lr=0.5).step()
    assert torch.equal(zero, torch.full((2, 2), -0.5)) and torch.equal(still, torch.ones(2, 2))


def test_lars_scales_all_updates_of_a_group_by_one_product():
    """Weights in any memory layout, shorter and longer than a row; torch's foreach would take one product for each."""

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    torch.manual_seed(0)
    weights = [torch.randn(40, 30), torch.randn(8, 3, 3, 3).to(memory_format=torch.channels_last), torch.randn(2, 5).T]
    ours = [nn.Parameter(w.clone()) for w in weights]
    optimizer, names = LARS([{"params": ours, "weight_decay": 0.1}], lr=0.5, momentum=0.0, trust=0.02), []
    for parameter in ours:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for parameter, w in zip(ours, weights, strict=True):
        update = parameter.grad + 0.1 * w
        assert torch.allclose(parameter, w - 0.5 * 0.02 * w.norm() / update.norm() * update, rtol=1e-5, atol=1e-7)
        assert parameter.stride() == w.stride()
    with Products():
        optimizer.step()
    assert names.count("aten.mul_.Tensor") == 1 and "aten._foreach_mul_.List" not in names


def test_lars_state_survives_saving():
    model, other = network(), network()
    first, second = (optim.build(Optim(name="lars", lr=0.1), m) for m in (model, other))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    first.step()
    other.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for m, o in ((model, first), (other, second)):
        for parameter in m.parameters():
            parameter.grad = torch.ones_like(parameter)
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("decay_all", "decayed"), [(False, 2), (True, 6)])
def test_biases_and_norms_are_decayed_only_on_request(decay_all, decayed):
    optimizer = optim.build(Optim(weight_decay=0.1, decay_all=decay_all), network())
    assert sum(len(group["params"]) for group in optimizer.param_groups if group["weight_decay"]) == decayed
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_every_optimizer_lowers_a_loss(name):
    model = network()
    optimizer = optim.build(Optim(name=name, lr={"sgd": 0.1, "lars": 5.0, "adamw": 0.01}[name]), model)
    x, y = torch.randn(32, 6), torch.randint(0, 4, (32,))
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
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


@pytest.mark.parametrize("warmup", [0, 3])
def test_the_schedules_of_msns_official_code(warmup):
    """`WarmupCosineSchedule` and `CosineWDSchedule` of src/utils.py, planned for 1.25 times the run."""
    lr, start, final, wd, final_wd, epochs = 1e-3, 2e-4, 1e-6, 0.04, 0.4, 20
    ours = Optim(
        name="adamw",
        lr=lr,
        start=start / lr,
        floor=final / lr,
        warmup_epochs=warmup,
        weight_decay=wd,
        final_weight_decay=final_wd,
        stretch=1.25,
    )
    for step in range(epochs + 1):
        if step < warmup:
            expected = start + step / warmup * (lr - start)
        else:
            done = (step - warmup) / (1.25 * epochs - warmup)
            expected = final + (lr - final) * 0.5 * (1 + math.cos(math.pi * done))
        assert lr_at(ours, step, epochs) == pytest.approx(expected, rel=1e-12)
        decay = final_wd + (wd - final_wd) * 0.5 * (1 + math.cos(math.pi * step / (1.25 * epochs)))
        assert weight_decay_at(ours, step, epochs) == pytest.approx(decay, rel=1e-12)


def test_the_schedules_without_a_start_or_an_end_are_what_they_were_to_the_last_bit():
    settings = Optim(lr=0.3, warmup_epochs=7, floor=0.001, weight_decay=0.03)
    for epoch in torch.linspace(0, 40, 97).tolist():
        done = (epoch - 7) / 33
        share = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        assert lr_at(settings, epoch, 40) == (0.3 * epoch / 7 if epoch < 7 else 0.3 * (share + 0.001 * (1 - share)))
        assert weight_decay_at(settings, epoch, 40) == 0.03


class Tokens(nn.Module):
    """The parts of a ViT: a token, which its module names, and a layer."""

    def __init__(self):
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.ones(1, 1, 4)), nn.Linear(4, 4)

    def no_weight_decay(self):
        return {"token"}


class WithPrototypes(Method):
    exempt = ("prototypes",)

    def __init__(self):
        super().__init__(Tokens(), ())
        self.prototypes = nn.Parameter(torch.ones(3, 4))


@pytest.mark.parametrize(
    ("settings", "decayed"),
    [
        ({}, {"encoder.layer.weight"}),
        ({"decay_tokens": True}, {"encoder.layer.weight", "encoder.token"}),
        ({"decay_all": True}, {"encoder.layer.weight", "encoder.layer.bias", "encoder.token"}),
    ],
)
def test_what_decays(settings, decayed):
    model = WithPrototypes()
    given = Optim(name="adamw", weight_decay=0.1, final_weight_decay=0.5, **settings)
    optimizer = optim.build(given, model)
    for epoch, decay in ((0, 0.1), (5, 0.3), (10, 0.5)):
        optim.schedule(given, optimizer, epoch, 10)
        decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        found = {name: decays[id(p)] for name, p in model.named_parameters()}
        assert found == {name: pytest.approx(decay if name in decayed else 0) for name in found}


def test_the_gradient_is_clipped_as_one_but_for_exempt_weights():
    model = WithPrototypes().double()
    optimizer = optim.build(Optim(clip_norm=3.0), model)
    for factor, share in ((100.0, None), (0.01, 1.0)):
        for parameter in model.parameters():
            parameter.grad = factor * torch.randn_like(parameter)
        before = {name: p.grad.clone() for name, p in model.named_parameters()}
        norm = math.sqrt(sum(float(g.square().sum()) for name, g in before.items() if name != "prototypes"))
        optim.clip(optimizer, 3.0)
        for name, parameter in model.named_parameters():
            scale = 1.0 if name == "prototypes" else share or 3.0 / norm
            assert torch.allclose(parameter.grad, scale * before[name], rtol=1e-5)


@pytest.mark.parametrize("key", ["betas", "stretch", "clip_norm", "start", "final_weight_decay"])
def test_a_schedule_that_cannot_be(key):
    with pytest.raises(ValueError, match=key):
        Optim(**{key: {"betas": (0.9, 1.0), "stretch": 0.5}.get(key, -1)})
