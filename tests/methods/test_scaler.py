"""Training with a loss scaler: a step that is skipped because its gradients overflow has no lasting effect."""

import io
from copy import deepcopy

import pytest
import torch

from tests.support.small_methods import batch, make
from tests.support.stripes import CPU, RECIPE, Stripes, make_trainer
from twoview.methods import checkpoint, optim
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.trainer import Trainer

STEPS = 7
OPTIMIZERS = {
    "sgd": Optim(name="sgd", lr=0.05),
    "nesterov": Optim(name="sgd", lr=0.05, nesterov=True),
    "plain sgd": Optim(name="sgd", lr=0.05, momentum=0.0),
    "lars": Optim(name="lars", lr=0.5),
    "adamw": Optim(name="adamw", lr=0.01, final_weight_decay=0.1),
}
SKIPPED = [{0}, {3}, {0, 1, 2}, {0, 3, 4}]


@pytest.fixture(autouse=True)
def uninitialized_memory_is_nan(one_thread):
    """Make torch fill uninitialized memory, as in deterministic mode; otherwise it may be zero by chance."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Overflowing(Trainer):
    """A trainer in float32 whose gradients are infinite in the steps of `skipped`.

    scaled: whether it has a scaler, of powers of two, so that it rounds nothing; otherwise these steps are skipped by
    hand.
    """

    def __init__(self, method, settings, skipped, scaled):
        normalize = Normalize((0.5,) * 3, (0.25,) * 3)
        super().__init__(method.train(), settings, epochs=2, normalize=normalize, device=CPU, precision="fp32")
        self.number, self.skipped, self.scaled = 0, skipped, scaled
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
        self.take = self.optimizer.step
        if scaled:
            last = [p for p in method.parameters() if p.requires_grad][-1]
            last.register_hook(lambda gradient: gradient * float("inf") if self.number in skipped else gradient)

    def train(self, first, last):
        losses = []
        for self.number in range(first, last):
            if not self.scaled:
                self.optimizer.step = (lambda: None) if self.number in self.skipped else self.take
            losses.append(self.step(batch(self.method, self.number), 2 * self.number / STEPS)["loss"].item())
        return losses

    def held(self):
        """Return everything that the steps change."""
        of_optimizer = {
            f"{number} {key}": value
            for number, state in self.optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }
        return self.method.state_dict() | of_optimizer


def assert_equal(one, other):
    mine, theirs = one.held(), other.held()
    for key in mine:
        # A step that is skipped by hand creates no state; before the first step it is zeros.
        assert torch.equal(mine[key], theirs.get(key, torch.zeros(()).expand_as(mine[key]))), key


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize("skipped", SKIPPED, ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_as_if_a_skipped_step_had_not_been(name, skipped, clip_norm):
    settings = OPTIMIZERS[name].model_copy(update={"clip_norm": clip_norm})
    method = make("simclr")
    scaled, plain = (Overflowing(deepcopy(method), settings, skipped, scaled) for scaled in (True, False))
    assert scaled.train(0, STEPS) == plain.train(0, STEPS)
    assert_equal(scaled, plain)
    assert scaled.scaler.get_scale() == 2.0 ** (10 - len(skipped)), "so many steps were skipped"


@pytest.mark.parametrize("name", ["byol", "moco", "msn", "data2vec"])
@pytest.mark.parametrize("skipped", [{0, 1}, {3}], ids=str)
def test_moving_averages_follow_in_a_skipped_step_too(name, skipped):
    """The weights do not change, but progress, queue and statistics do."""
    method, settings = make(name), OPTIMIZERS["sgd"]
    scaled, plain = (Overflowing(deepcopy(method), settings, skipped, scaled) for scaled in (True, False))
    torch.manual_seed(1)
    ours = scaled.train(0, STEPS)
    torch.manual_seed(1)
    assert ours == plain.train(0, STEPS)
    assert_equal(scaled, plain)
    assert all(value.isfinite().all() for value in scaled.held().values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_goes_on_behind_a_skipped_first_step_is_the_whole_run(name):
    whole, stopped, resumed = (Overflowing(make("simclr"), OPTIMIZERS[name], {0}, True) for _ in range(3))
    losses = whole.train(0, STEPS)
    stopped.train(0, 1)
    torch.save(stopped.state(RECIPE), kept := io.BytesIO())
    resumed.resume(torch.load(io.BytesIO(kept.getvalue())))
    assert resumed.train(1, STEPS) == losses[1:]
    assert_equal(whole, resumed)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fp16_learns_behind_a_scale_that_is_too_large(name):
    """The scaler starts at 65,536 and halves its scale until a step's gradients are finite."""
    method, given = make("supervised").train(), batch(make("supervised"))
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    trainer = Trainer(method, OPTIMIZERS[name], epochs=1, normalize=normalize, device=CPU, precision="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    losses = [trainer.step(given, 0.1)["loss"].item() for _ in range(30)]
    assert trainer.scaler.get_scale() < 2.0**24 and losses[-1] < 0.6 * losses[0], losses


def test_gradients_that_no_scale_makes_finite_end_the_training(tmp_path):
    """Otherwise every step would be skipped, and the loss would stay finite and constant."""
    trainer = make_trainer(epochs=20, precision="fp16")
    next(trainer.method.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match=r"Supervised diverged at step \d+ \(no loss scale gives finite"):
        trainer.fit(Stripes(), tmp_path / "a.pt", RECIPE)
    assert 7 <= checkpoint.load(tmp_path / "a.pt")["epoch"] <= 8, "the scale is halved 30 times, four times an epoch"


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_takes_torchs_steps_to_the_bit(nesterov):
    weights = []
    for ours in (True, False):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))
        sgd = optim.build(Optim(lr=0.1, nesterov=nesterov, weight_decay=0.01, decay_all=True), network)
        if not ours:
            sgd = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=0.01, nesterov=nesterov, fused=True)
        for _ in range(5):
            sgd.zero_grad()
            network(torch.randn(8, 7)).square().mean().backward()
            sgd.step()
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(*weights)
