"""What a GPU would have trouble with, seen without one: by tensors that have a device and no values, and by graphs."""

import pytest
import torch
from test_graph import batches
from test_methods import METHODS, make
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from methods import optim
from methods.losses import log_sum
from methods.losses.infonce import nt_xent
from methods.normalise import Normalise
from methods.optim import Optim
from methods.probes.online import Online
from methods.trainer import Trainer

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def trainer(method):
    normalise = Normalise((0.5,) * 3, (0.25,) * 3)
    return Trainer(
        method, Optim(name="lars", clip_norm=1.0), epochs=2, normalise=normalise, device=CPU, precision="fp32"
    )


@torch.no_grad()
def moved(mode, tensor):
    return mode.from_tensor(tensor).to(GPU)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_on_a_gpu_looks_at_no_value_and_takes_nothing_from_the_processor(name, monkeypatch):
    """Values are not there to be looked at, and an op on tensors of two devices fails. Without a driver there is no
    backward pass: gradients are put there.
    """
    one, mode = trainer(make(name).train()), FakeTensorMode()
    one.device = one.objective.device = GPU
    [batch] = batches(one.method, 1)

    def backward(loss):
        assert loss.device.type == "cuda" and loss.requires_grad
        for parameter in one.method.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with mode:
        for module in one.objective.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[key] = nn.Parameter(moved(mode, parameter), parameter.requires_grad)
            for key, buffer in module._buffers.items():
                module._buffers[key] = None if buffer is None else moved(mode, buffer)
        one.optimiser = optim.build(one.settings, one.method)
        out = one.step(tuple(moved(mode, view) for view in batch.views), moved(mode, batch.label), 0.5)
    assert {value.device.type for value in out.values()} == {"cuda"}


def test_a_look_at_a_value_would_be_seen():
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.ones((), device=GPU).item()


@pytest.mark.parametrize("name", ["moco", "online", *(pytest.param(m, marks=pytest.mark.long) for m in METHODS)])
def test_a_step_compiles_to_one_graph(name):
    """MoCo's queue and the online head's weights change beside it."""
    one = trainer((Online(make("simclr"), 10) if name == "online" else make(name)).train())
    one.objective.compile(backend="eager", fullgraph=True, dynamic=False)
    for batch in batches(one.method, 2):
        one.step(*batch, 0.5)


def test_a_gpu_takes_larger_matrices_whole(monkeypatch):
    class Tiles(Exception):
        pass

    def apply(*args):
        raise Tiles

    monkeypatch.setattr(log_sum._Tiled, "apply", apply)
    with pytest.raises(Tiles):
        nt_xent(*torch.ones(2, 512, 8), 0.5)
    with FakeTensorMode():
        nt_xent(*torch.empty(2, 512, 8, device=GPU), 0.5)
        with pytest.raises(Tiles):
            nt_xent(*torch.empty(2, 4096, 8, device=GPU), 0.5)
