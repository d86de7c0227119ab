"""Errors that would occur on a GPU, found without one: by tensors with a device and no values, and by graphs."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from tests.support.absent_gpu import GPU, Watch, moved
from tests.support.small_methods import METHODS, batches, make
from twoview.methods import optim
from twoview.methods.device_batches import DeviceBatch, map_tensors
from twoview.methods.losses import log_sum
from twoview.methods.losses.infonce import nt_xent
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.probes import nearest
from twoview.methods.probes.features import extract
from twoview.methods.probes.knn import knn_top1, votes
from twoview.methods.trainer import Trainer

CPU = torch.device("cpu")


def trainer(method):
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    return Trainer(
        method, Optim(name="lars", clip_norm=1.0), epochs=2, normalize=normalize, device=CPU, precision="fp32"
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_step_on_a_gpu_looks_at_no_value_and_takes_nothing_from_the_processor(name, monkeypatch):
    """Reading a value fails, and so does an op on tensors of two devices.

    Without a driver there is no backward pass, so gradients are set by hand.
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
        one.optimizer = optim.build(one.settings, one.method)
        out = one.step(map_tensors(batch, lambda tensor: moved(mode, tensor)), 0.5)
    assert {value.device.type for value in out.values()} == {"cuda"}


def test_a_look_at_a_value_would_be_seen():
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.ones((), device=GPU).item()


class Images:
    """Three batches as a loader yields them on that device; the last one is not full."""

    def __init__(self, device):
        self.device = device

    def __len__(self):
        return 3

    def epoch(self, epoch):
        for images in (5, 5, 2):
            view = torch.zeros(images, 3, 8, 8, dtype=torch.uint8, device=self.device)
            yield DeviceBatch((view,), torch.zeros(images, dtype=torch.int64, device=self.device))


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("device", [CPU, GPU])
def test_features_and_labels_are_fetched_once_a_batch_and_nothing_else_is(device):
    """Also with a loader on the host, whose labels are already there."""
    with FakeTensorMode():
        with GPU:
            encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1)).eval()
            normalize = Normalize((0.5,) * 3, (0.25,) * 3)
        with Watch() as watch:
            x, label = extract(encoder, Images(device), normalize, GPU, lambda: None, precision="bf16")
    assert (x.shape, x.dtype, x.device) == ((12, 4), torch.bfloat16, CPU)
    assert (label.shape, label.dtype, label.device) == ((12,), torch.int64, CPU)
    sizes = (5, 5, 2)
    if device == GPU:
        assert watch.fetched == [shape for images in sizes for shape in ((images, 4), (images,))]
        assert watch.waited == watch.sent == []
    else:
        assert watch.fetched == [(images, 4) for images in sizes]
        assert watch.waited == [(images, 3, 8, 8) for images in sizes] and watch.sent == []


@pytest.mark.parametrize("device", [CPU, GPU])
def test_knn_looks_once_whether_a_group_of_queries_was_finite_and_fetches_the_guesses_once(device):
    """Features that are already on the GPU are not copied again; labels come from the host."""
    with FakeTensorMode():
        bank, query = torch.ones(5000, 32, device=device), torch.ones(700, 32, device=device)
        label, truth = torch.zeros(5000, dtype=torch.int64), torch.zeros(700, dtype=torch.int64)
        with Watch() as watch:
            knn_top1(bank, label, query, truth, k=10, device=GPU)
            assert watch.fetched == [(2,), (700,)]
            assert watch.waited == [(5000,), *([(700, 32), (5000, 32)] if device == CPU else [])]
        with Watch() as watch:
            groups = [len(scores) for scores in votes(bank, label, query, classes=2, k=10, memory_mib=1, device=GPU)]
            plan = nearest._plan(bank, 700, 10, 0.75, GPU)
            assert plan.chunk < 5000 and plan.group < 700, "several chunks of the bank, for several groups of queries"
            assert watch.fetched == [(2,)] * len(query.split(plan.group)) and sum(groups) == 700


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
