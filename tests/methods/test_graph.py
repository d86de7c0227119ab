"""A step that is recorded and replayed, with a recorder for a CPU that freezes the same things as a CUDA graph."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.small_methods import METHODS, batches, make
from tests.support.stripes import CPU, RECIPE
from twoview.methods import graph, optim
from twoview.methods.graph import WARMUP
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.trainer import Trainer

STEPS = WARMUP + 2


class Recorder(TorchDispatchMode):
    """Records every op with its tensors and constant numbers. It undoes the recording's changes to tensors."""

    def __init__(self):
        super().__init__()
        self.calls, self.made, self.found = [], set(), {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            # A loss checks on a CPU whether its embeddings are finite, but not on a GPU.
            if not any(frame.f_code.co_filename.endswith("checks.py") for frame, _ in traceback.walk_stack(None)):
                raise RuntimeError("a look at a value")
            return function(*args)
        for tensor in tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.made and storage._cdata not in self.found:
                self.found[storage._cdata] = storage, storage.clone()
        out = function(*args, **kwargs)
        self.made |= {t.untyped_storage()._cdata for t in tensors(out)} - self.found.keys()
        self.calls.append((function, args, kwargs, out))
        return out

    def undo(self):
        for storage, before in self.found.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, out in self.calls:
            for old, new in zip(tensors(out), tensors(function(*args, **kwargs)), strict=True):
                if old.untyped_storage()._cdata != new.untyped_storage()._cdata:
                    old.copy_(new)


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def recorded(work):
    with Recorder() as recorder:
        out = work()
    recorder.undo()
    return recorder.replay, out


@pytest.fixture
def on_cpu(monkeypatch, one_thread):
    monkeypatch.setattr(graph, "check", lambda *args: None)
    monkeypatch.setattr(graph, "on_side_stream", lambda work: work())
    monkeypatch.setattr(graph, "recorded", recorded)


def trainer(name, settings, cuda_graph):
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    return Trainer(
        make(name).train(), settings, epochs=2, normalize=normalize, device=CPU, precision="fp32", cuda_graph=cuda_graph
    )


def trained(name, settings, cuda_graph):
    """Return all logged values of STEPS steps, and the method's state after them."""
    one = trainer(name, settings, cuda_graph)
    out = [one.step(batch, number / 5) for number, batch in enumerate(batches(one.method, STEPS))]
    return [{key: value.item() for key, value in logged.items()} for logged in out], one.method.state_dict()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_replays_to_the_bit(name, on_cpu):
    """The learning rate and BYOL's momentum change, MoCo's queue moves on, and batches differ."""
    settings = Optim(name="lars", lr=0.5, warmup_epochs=0.6)
    (plain, weights), (replayed, others) = (trained(name, settings, cuda_graph) for cuda_graph in (False, True))
    assert plain == replayed and len({logged["loss"] for logged in plain}) == STEPS
    assert all(torch.equal(weights[key], others[key]) for key in weights)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_fused_optimizers_follow_the_others(name, on_cpu):
    settings = Optim(name=name, lr=0.01, warmup_epochs=0.6, clip_norm=0.5)
    (plain, weights), (replayed, others) = (trained("simclr", settings, cuda_graph) for cuda_graph in (False, True))
    assert [logged["loss"] for logged in plain] == pytest.approx([logged["loss"] for logged in replayed], rel=1e-5)
    assert all(torch.allclose(weights[key], others[key], atol=1e-5) for key in weights)


@pytest.mark.parametrize("name", ["sgd", "lars"])
def test_a_learning_rate_on_the_device_is_the_number_to_the_bit(name):
    weights = []
    for kind in (float, torch.tensor):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 35).view(5, 7))
        module = torch.nn.ParameterList([parameter])
        optimizer = optim.build(Optim(name=name), module, recorded=True)
        for lr in (0.1, 0.07, 0.03):
            parameter.grad = parameter.detach().sin()
            optimizer.param_groups[0]["lr"] = kind(lr)
            optimizer.step()
        weights.append(parameter.detach())
    assert torch.equal(*weights)


def test_another_shape_is_recorded_anew(on_cpu, monkeypatch):
    recordings = []
    monkeypatch.setattr(graph, "recorded", lambda work: recordings.append(1) or recorded(work))
    plain, replayed = (trainer("simclr", Optim(name="lars"), cuda_graph) for cuda_graph in (False, True))
    for side, times in ((8, 1), (16, 2)):
        for one in batches(plain.method, WARMUP + 2, side=side):
            assert plain.step(one, 0.5)["loss"] == replayed.step(one, 0.5)["loss"]
        assert len(recordings) == times


def test_resumed_it_is_recorded_anew(on_cpu, tmp_path):
    class Loader:
        position = (0, 0)

        def __len__(self):
            return STEPS

        def state_dict(self):
            return {"epoch": self.position[0], "batches": self.position[1]}

        def load_state_dict(self, state):
            self.position = state["epoch"], state["batches"]

        def epoch(self, epoch):
            first = self.position[1] if self.position[0] == epoch else 0
            self.position = epoch, first
            return (batch for number, batch in enumerate(batches(whole.method, STEPS)) if number >= first)

    settings = Optim(name="lars", lr=0.5)
    whole, stopped, resumed = (trainer("byol", settings, True) for _ in range(3))
    whole.fit(Loader(), tmp_path / "whole.pt", RECIPE)
    taken = iter(range(STEPS))
    stopped.fit(Loader(), tmp_path / "a.pt", RECIPE, stop=lambda: next(taken) == WARMUP + 1)
    resumed.resume(torch.load(tmp_path / "a.pt"))
    resumed.fit(Loader(), tmp_path / "a.pt", RECIPE)
    assert resumed.history.losses == whole.history.losses and len(whole.history.losses) == 2 * STEPS


def test_a_method_that_looks_at_a_value_is_refused_by_name(on_cpu):
    one = trainer("simclr", Optim(), True)
    one.method.after_step = lambda progress: 0.9 if progress > 0.5 else 0.8
    with pytest.raises(ValueError, match="cuda_graph: a step of SimCLR cannot be recorded: a look at a value"):
        for batch in batches(one.method, STEPS):
            one.step(batch, 0.0)


@pytest.mark.parametrize(
    ("device", "precision", "compile", "settings", "complaint"),
    [
        ("cpu", "fp32", "off", {}, "cuda_graph needs a CUDA device, got cpu"),
        ("cuda", "fp16", "off", {}, "cuda_graph cannot be used with precision fp16"),
        ("cuda", "bf16", "max-autotune", {}, "cuda_graph cannot be used with compile max-autotune"),
        ("cuda", "bf16", "default", {"final_weight_decay": 0.4}, "cannot be used with optim.final_weight_decay"),
    ],
)
def test_what_cannot_be_recorded_is_refused(device, precision, compile, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        graph.check(torch.device(device), precision, compile, Optim(**settings))


def test_one_rank_alone(monkeypatch):
    monkeypatch.setattr(graph.ranks, "world", lambda: 2)
    with pytest.raises(ValueError, match="cuda_graph needs a single process, got 2 ranks"):
        graph.check(torch.device("cuda"), "bf16", "off", Optim())
