"""The training loop: it learns, resumes as if it had never stopped, and stops at a NaN."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.stripes import CPU, RECIPE, Stripes, make_trainer
from twoview.loaders.views import View
from twoview.methods import backbones, checkpoint
from twoview.methods.backbones import Backbone
from twoview.methods.device_batches import DeviceBatch
from twoview.methods.encoder import Encoder
from twoview.methods.method import Method
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.simclr import SimCLR, SimCLROptions
from twoview.methods.trainer import Trainer


def fit(trainer, path, loader=None):
    steps = []
    trainer.fit(loader or Stripes(len(trainer.method.views)), path, RECIPE, lambda: steps.append(1))
    return len(steps)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_supervised_learns(tmp_path, precision):
    trainer = make_trainer(epochs=6, precision=precision)
    assert fit(trainer, tmp_path / "a.pt") == 24
    assert trainer.history.losses[-1] < 0.2 < trainer.history.losses[0]
    assert len(trainer.history.epoch_seconds) == 6 and len(trainer.history.losses) == 24
    assert all(0 <= w <= e for w, e in zip(trainer.history.wait_seconds, trainer.history.epoch_seconds, strict=True))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, one_thread, views, name):
    whole = make_trainer(views, name=name)
    fit(whole, tmp_path / "whole.pt")

    class Power(Stripes):
        def epoch(self, epoch):
            if epoch == 2:
                raise KeyboardInterrupt
            yield from super().epoch(epoch)

    stopped = make_trainer(views, name=name)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, tmp_path / "a.pt", Power(views))
    resumed = make_trainer(views, name=name)
    resumed.resume(checkpoint.load(tmp_path / "a.pt"))
    assert resumed.finished_epochs == 2
    assert fit(resumed, tmp_path / "a.pt") == 4
    assert resumed.history.losses == whole.history.losses
    for a, b in zip(whole.method.state_dict().values(), resumed.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)


ODD_OPTIMIZERS = {
    "its state must be for weights 0 to .*, got weight 99": lambda state: state["state"].update({99: {}}),
    r"momentum_buffer of weight 0 must have shape \(.*\), got \(1,\)": lambda state: state["state"][0].update(
        momentum_buffer=torch.ones(1)
    ),
    "every group must have params, lr, weight_decay and adapt": lambda state: state["param_groups"][0].pop("adapt"),
}


@pytest.mark.parametrize("complaint", ODD_OPTIMIZERS)
def test_an_optimizer_s_state_of_other_weights_is_not_taken_up(tmp_path, complaint):
    fit(make_trainer(), tmp_path / "a.pt")
    state = checkpoint.load(tmp_path / "a.pt")
    ODD_OPTIMIZERS[complaint](state["optimizer"])
    with pytest.raises(ValueError, match=f"optimizer: {complaint}"):
        make_trainer().resume(state)


def test_a_run_in_parts_without_a_checkpoint_is_the_whole_run(tmp_path, one_thread):
    """The number of epochs may be reduced between the parts, within the warm-up: it only affects later steps."""
    whole, parts, loader = make_trainer(epochs=4), make_trainer(epochs=9), Stripes(1)
    whole.settings = parts.settings = whole.settings.model_copy(update={"warmup_epochs": 2.0})
    fit(whole, tmp_path / "whole.pt")
    files = sorted(tmp_path.iterdir())
    assert parts.fit(loader, None, RECIPE, until=2) and parts.finished_epochs == 2
    parts.epochs = 4
    assert parts.fit(loader, None, RECIPE, until=3) and parts.fit(loader, None, RECIPE)
    assert parts.history.losses == whole.history.losses and parts.finished_epochs == 4
    assert sorted(tmp_path.iterdir()) == files


def test_the_next_step_does_not_write_over_what_was_logged():
    """A method's result may be at the same address in every step, like the results of CUDA graphs."""
    trainer, place = make_trainer(), torch.zeros(())
    loss = trainer.method.loss
    trainer.method.loss = lambda views, label, masks: {**loss(views, label, masks), "place": place.add_(1)}
    logged = [trainer.step(batch, 0.0)["place"] for batch in Stripes().epoch(0)]
    assert [value.item() for value in logged] == [1, 2, 3, 4]


def test_the_encoder_sees_channels_last_normalized_pixels(tmp_path):
    seen = []
    trainer = make_trainer()
    trainer.method.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    batch = next(Stripes().epoch(0))
    trainer.step(batch, 0.0)
    assert seen[0].is_contiguous(memory_format=torch.channels_last) and seen[0].dtype == torch.float32
    assert torch.allclose(seen[0], (batch.views[0].float() / 255 - 0.5) / 0.25, atol=1e-5)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in trainer.method.parameters() if p.ndim == 4)


def test_after_step_sees_the_progress():
    seen = []
    trainer = make_trainer(epochs=2)
    trainer.method.after_step = seen.append
    trainer.step(next(Stripes().epoch(0)), 1.5)
    assert seen == [0.75]


class Diverging(Method):
    """A method whose loss is NaN from the fifth step on, and which logs the number of steps."""

    def __init__(self):
        super().__init__(nn.Linear(3, 1), (View(8),))
        self.steps = 0

    def loss(self, views, label, masks=()):
        self.steps += 1
        value = self.encode(views[0].mean((2, 3))).mean()
        return {"loss": value * float("nan") if self.steps > 5 else value, "steps": torch.tensor(self.steps)}


def test_a_nan_stops_with_method_step_and_last_good_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    trainer = Trainer(Diverging(), Optim(), epochs=3, normalize=normalize, device=CPU, precision="fp32")
    with pytest.raises(
        FloatingPointError,
        match=rf"Diverging diverged at step 5 \(the loss is nan\): the last good checkpoint is {path}",
    ):
        fit(trainer, path)
    state = checkpoint.load(path)
    assert state["epoch"] == 1
    assert state["history"]["logged"] == {"steps": [2.5]}, "the mean of the epoch's four steps, and no more epochs"


def test_embeddings_that_a_loss_refuses_stop_it_alike(tmp_path):
    trainer = make_trainer(views=2)
    trainer.settings = Optim(lr=1e30)
    path = tmp_path / "a.pt"
    with pytest.raises(
        FloatingPointError,
        match=r"SimCLR diverged at step \d \(z1 must be finite, got .* = nan\): there is no checkpoint",
    ):
        fit(trainer, path)
    assert not path.exists()


class Layouts(TorchDispatchMode):
    """Records every op that copies an image from one memory layout into another."""

    def __init__(self):
        super().__init__()
        self.transposed = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sources = [a for a in args if isinstance(a, Tensor)]
        if isinstance(out, Tensor):
            layouts = {self.layout(tensor) for tensor in (*sources, out) if tensor.shape == out.shape}
            if {"channels first", "channels last"} <= layouts:
                self.transposed.append(str(function))
        return out

    @staticmethod
    def layout(tensor):
        if tensor.ndim == 4 and min(tensor.shape[1:]) > 1:
            if tensor.is_contiguous(memory_format=torch.channels_last):
                return "channels last"
            if tensor.is_contiguous():
                return "channels first"
        return "neither"  # not an image, or one value expanded to an image's shape


@pytest.mark.parametrize(
    "backbone",
    [
        Backbone(name="resnet-small", width=8),
        Backbone(name="resnet18"),
        Backbone(name="wide-resnet", depth=10, widen=1),
        Backbone(name="alexnet", width=8),
        Backbone(name="vit-mini"),
    ],
    ids=lambda one: one.name,
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_copies_an_image_from_one_memory_layout_into_another(backbone, precision):
    torch.manual_seed(0)
    encoder = backbones.build(backbone, 32)
    method = SimCLR(SimCLROptions(hidden=8, projection=4), encoder, (View(32), View(32)), 2)
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    trainer = Trainer(method, Optim(), epochs=1, normalize=normalize, device=CPU, precision=precision)
    view = torch.zeros(4, 3, 32, 32, dtype=torch.uint8).to(memory_format=torch.channels_last)
    with Layouts() as layouts:
        trainer.step(DeviceBatch((view, view), torch.zeros(4, dtype=torch.int64)), 0.0)
    assert layouts.transposed == []
    with Layouts() as layouts:
        view.contiguous().to(memory_format=torch.channels_last)
    assert layouts.transposed, "the notes are taken"


def test_a_compiled_step_computes_the_same():
    """Uses a linear encoder, since compiling a network takes a minute on a CPU."""
    losses = []
    for compile in ("off", "default"):
        torch.manual_seed(0)
        encoder = Encoder(nn.Sequential(nn.Flatten(), nn.Linear(192, 8)), 8)
        method = SimCLR(SimCLROptions(hidden=8, projection=4), encoder, (View(8), View(8)), 2)
        normalize = Normalize((0.5,) * 3, (0.25,) * 3)
        trainer = Trainer(method, Optim(), epochs=1, normalize=normalize, device=CPU, precision="fp32", compile=compile)
        losses.append([trainer.step(batch, 0.1)["loss"].item() for batch in Stripes(2).epoch(0)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_stopped_after_any_step_it_goes_on_bit_for_bit(tmp_path, one_thread, stop_after):
    whole = make_trainer(2)
    fit(whole, tmp_path / "whole.pt")
    stopped, steps = make_trainer(2), []
    done = stopped.fit(Stripes(2), tmp_path / "a.pt", RECIPE, lambda: steps.append(1), lambda: len(steps) == stop_after)
    assert not done and len(stopped.history.losses) == stop_after
    resumed = make_trainer(2)
    resumed.resume(checkpoint.load(tmp_path / "a.pt"))
    assert fit(resumed, tmp_path / "a.pt") == 12 - stop_after
    assert resumed.history.losses == whole.history.losses
    assert len(resumed.history.epoch_seconds) == 3
    for a, b in zip(whole.method.state_dict().values(), resumed.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)
