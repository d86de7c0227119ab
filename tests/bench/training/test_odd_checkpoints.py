"""Errors of `train --resume` for checkpoints with values of wrong types, and for memory that runs out."""

import copy
import resource

import pytest
import torch

from twoview import cli
from twoview.bench.config import experiment, recipe
from twoview.bench.training import out_of_memory, search, train
from twoview.loaders.loader import Batch
from twoview.loaders.views import View
from twoview.methods import backbones, checkpoint
from twoview.methods.backbones import Backbone
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.supervised import Supervised, SupervisedOptions
from twoview.methods.trainer import Trainer

CPU = torch.device("cpu")


class Batches:
    """Two batches of 8 images. refused: the error of load_state_dict, if any."""

    def __init__(self, refused=""):
        self.refused, self.position = refused, (0, 0)

    def __len__(self):
        return 2

    def state_dict(self):
        return {"epoch": self.position[0], "batches": self.position[1], "seed": 0}

    def load_state_dict(self, state):
        if self.refused:
            raise ValueError(self.refused)
        self.position = state["epoch"], state["batches"]

    def epoch(self, epoch):
        self.position = epoch, 0
        for number in range(2):
            generator = torch.Generator().manual_seed(number)
            views = torch.randint(0, 256, (8, 3, 8, 8), generator=generator, dtype=torch.uint8)
            views = views.to(memory_format=torch.channels_last)
            yield Batch((views,), torch.arange(8) % 2, torch.arange(8))


def make(name="sgd", precision="fp32", epochs=2):
    torch.manual_seed(0)
    method = Supervised(SupervisedOptions(), backbones.build(Backbone(width=4)), (View(8),), 2)
    normalize = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Trainer(
        method, Optim(name=name, lr=0.05), epochs=epochs, normalize=normalize, device=CPU, precision=precision
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function: optimizer, precision -> the checkpoint after the first epoch of a run."""
    folder = tmp_path_factory.mktemp("written")
    for name, precision in (("sgd", "fp32"), ("lars", "fp32"), ("adamw", "fp32"), ("sgd", "fp16")):
        make(name, precision).fit(Batches(), folder / f"{name}-{precision}.pt", {"name": "r"}, until=1)
    return lambda name="sgd", precision="fp32": folder / f"{name}-{precision}.pt"


def changed(path, keys, value):
    """The checkpoint with one value changed, or removed if the new value is `copy`."""
    state = table = checkpoint.load(path)
    for key in keys[:-1]:
        table = table[key]
    if value is copy:
        del table[keys[-1]]
    else:
        table[keys[-1]] = value
    return state


ODD = [torch.zeros(3), torch.zeros(3, dtype=torch.complex64), None, "x", -1, float("nan"), 10**30, [1, [2]], {"a": 1}]


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_every_key_of_a_group_must_match_the_run(written, name):
    path = written(name)
    group = checkpoint.load(path)["optimizer"]["param_groups"][0]
    for key, mine in group.items():
        for value in ODD:
            if type(value) is type(mine) and value == mine:  # such as foreach, which is None
                continue
            state = changed(path, ("optimizer", "param_groups", 0, key), value)
            with pytest.raises(
                ValueError, match=rf"^a\.pt cannot be resumed from: optimizer: {key} of group 0 must be "
            ):
                experiment.take_up(make(name), state, "a.pt")


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_a_weights_state_must_be_real_numbers_of_its_shape(written, name):
    path = written(name)
    kept = checkpoint.load(path)["optimizer"]["state"][0]
    for key in kept:
        gone = [] if name == "lars" else [copy]  # LARS may begin without any
        for value in (*ODD, *gone, torch.zeros(2, 2), kept[key].to(torch.complex64), kept[key].to(torch.int64)):
            state = changed(path, ("optimizer", "state", 0, key), value)
            with pytest.raises(ValueError, match=r"^a\.pt cannot be resumed from: optimizer: .*weight 0 must"):
                experiment.take_up(make(name), state, "a.pt")


def test_a_weight_without_state_is_named(written):
    for change in (copy, {}):
        state = changed(written(), ("optimizer", "state", 0), change)
        with pytest.raises(ValueError, match="optimizer: weight 0 must have momentum_buffer, got"):
            make().resume(state)


@pytest.mark.parametrize(("name", "key"), [("sgd", "momentum_buffer"), ("lars", "momentum"), ("adamw", "exp_avg")])
def test_an_expanded_momentum_is_copied(written, name, key):
    """torch's fused kernels would write beyond its storage."""
    losses = []
    for expand in (False, True):
        trainer = make(name)
        shape = checkpoint.load(written(name))["optimizer"]["state"][0][key].shape
        zeros = torch.zeros(1).expand(shape) if expand else torch.zeros(shape)
        trainer.resume(changed(written(name), ("optimizer", "state", 0, key), zeros))
        kept, weight = trainer.optimizer.state_dict()["state"][0][key], trainer.optimizer.param_groups[0]["params"][0]
        assert kept.stride() == weight.stride()
        trainer.fit(Batches(), None, {})
        losses.append(trainer.history.losses)
    assert losses[0] == losses[1]


def test_another_number_of_groups_is_refused(written):
    state = checkpoint.load(written())
    state["optimizer"]["param_groups"].pop()
    with pytest.raises(ValueError, match="optimizer: there must be 2 groups, got 1"):
        make().resume(state)


def test_keys_of_another_torch_version_are_accepted(written):
    state = checkpoint.load(written())
    state["optimizer"]["param_groups"][0].pop("foreach")
    state["optimizer"]["param_groups"][1]["newer"] = 1
    trainer = make()
    trainer.resume(state)
    assert trainer.fit(Batches(), None, {}) and len(trainer.history.losses) == 4


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("growth_interval", 0.5, "scaler: growth_interval must be 2000, got 0.5"),
        ("_growth_tracker", 10**12, "scaler: _growth_tracker must be a number from 0 to 2000, got 1000000000000"),
        ("scale", float("inf"), "scaler: scale must be a number from 0 to "),
        (
            "scale",
            copy,
            "scaler must have the keys _growth_tracker, backoff_factor, growth_factor, growth_interval, scale, got",
        ),
    ],
)
def test_a_loss_scaler_with_other_settings_is_refused(written, key, value, complaint):
    state = changed(written("sgd", "fp16"), ("scaler", key), value)
    with pytest.raises(ValueError, match=complaint):
        make(precision="fp16").resume(state)


def test_a_loss_scalers_state_is_restored(written):
    trainer = make(precision="fp16")
    trainer.resume(checkpoint.load(written("sgd", "fp16")))
    assert trainer.fit(Batches(), None, {})


TABLES = [(("loader", key), value) for key in ("epoch", "batches", "seed", "images", "global_batch") for value in ODD]
TABLES += [(("loader", "data"), value) for value in ODD if not (value is None or value == "x")]
TABLES += [(("history", key), value) for key in ("open_seconds", "open_wait") for value in ODD]
TABLES += [(("history", "open_logged"), {"x": []}), (("history", "losses", 0), float("nan")), (("epoch",), 10**30)]
TABLES += [(("history", "epoch_seconds", 0), -1.0), (("random",), [])]


@pytest.mark.parametrize(("keys", "value"), TABLES)
def test_a_value_of_a_wrong_type_is_named_with_file_and_key(written, tmp_path, keys, value):
    torch.save(changed(written(), keys, value), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/a\.pt is not a checkpoint of twoview: {keys[0]}") as caught:
        checkpoint.load(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


def test_a_refused_loader_state_is_named_with_the_file(written, tmp_path):
    for path, named in ((tmp_path / "a.pt", tmp_path / "a.pt"), (None, "the checkpoint")):
        trainer = make()
        trainer.resume(checkpoint.load(written()))
        with pytest.raises(ValueError, match=f"^{named} cannot be resumed from: the loader's seed must be 1, as"):
            trainer.fit(Batches("the loader's seed must be 1, as in the saved state, got 0"), path, {})


NO_MEMORY = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def no_room(*_, **__):
    raise NO_MEMORY


def test_too_little_memory_for_the_weights_is_reported_in_one_sentence(monkeypatch, tmp_path, capsys):
    asked = recipe.load("cifar10-simclr")
    outlined = experiment.outline(asked)
    monkeypatch.setattr(train.betons, "dataset_beton", lambda *_, **__: None)
    monkeypatch.setattr(experiment, "outline", lambda _: outlined)
    monkeypatch.setattr(experiment, "_made", no_room)
    assert cli.run(["train", "cifar10-simclr", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "twoview: cifar10-simclr ran out of memory: its weights take 0.0" in said and "\n" not in said.rstrip()


def test_too_little_memory_after_the_weights_is_reported_in_one_sentence(monkeypatch, tmp_path, capsys):
    """For the optimizer's momentum, for example."""
    monkeypatch.setattr(train.betons, "dataset_beton", lambda *_, **__: None)
    monkeypatch.setattr(experiment, "trainer", no_room)
    monkeypatch.setattr(out_of_memory, "_sentence", lambda *_: "it ran out of memory")
    assert cli.run(["train", "cifar10-simclr", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.rstrip().endswith("twoview: it ran out of memory")


def test_too_little_memory_to_count_memory_is_reported_in_one_sentence(monkeypatch):
    asked = recipe.load("cifar10-simclr")
    monkeypatch.setattr(out_of_memory.memory_plan, "counted", no_room)
    complaint = r"^cifar10-simclr ran out of memory: its weights take 0\.\d\d GiB, and together with their gradients"
    with pytest.raises(ValueError, match=complaint), out_of_memory.explained(asked, CPU, "fp32"):
        no_room()


def test_other_errors_while_making_weights_pass(monkeypatch):
    asked = recipe.load("cifar10-simclr")
    outlined = experiment.outline(asked)
    monkeypatch.setattr(experiment, "outline", lambda _: outlined)
    monkeypatch.setattr(experiment, "_made", lambda _: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        experiment.build_method(asked)


def test_a_trial_of_a_search_that_runs_out_of_memory_fails(monkeypatch, tmp_path):
    asked = recipe.load("cifar10-simclr")
    values = asked.model_dump(mode="json") | {"search": {"ranges": {"optim.lr": [0.01, 1.0, "log"]}}}
    asked = recipe.parse(values, "x")
    monkeypatch.setattr(search.betons, "dataset_beton", lambda *_: None)
    monkeypatch.setattr(search, "held_out_accuracy", no_room)
    monkeypatch.setattr(out_of_memory, "_sentence", lambda *_: "it ran out of memory")
    study = search.open_study(asked, tmp_path)
    search.run(asked, study, tmp_path, 1, experiment.Place(tmp_path, tmp_path, None))
    assert [row["error"] for row in search.outcome(study)["groups"]] == ["it ran out of memory"]


def test_the_memory_limit_is_the_least_of_machine_cgroup_and_rlimit(monkeypatch, tmp_path):
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(experiment, "CGROUP", (tmp_path / "memory.max", tmp_path / "gone"))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (unlimited, unlimited))
    machine = experiment.memory_limit()
    assert machine > 2**28
    for said, limit, least in (("max\n", unlimited, machine), (f"{2**28}\n", unlimited, 2**28), ("max", 2**27, 2**27)):
        (tmp_path / "memory.max").write_text(said)
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, unlimited))
        assert experiment.memory_limit() == least
