"""A registered method is trained, measured, checked and listed everywhere, and is named in no other file."""

import ast
import inspect
import re
import time
from pathlib import Path
from typing import Literal

import pytest
import torch

from twoview import cli
from twoview.bench.config import experiment, recipe
from twoview.bench.config.experiment import Place
from twoview.bench.costs import loss_cost
from twoview.bench.costs.loss_cost import Job
from twoview.bench.suites.gpu import correctness, graphs, steps, suite
from twoview.bench.suites.gpu.scale import TINY, Context
from twoview.bench.training import train as training
from twoview.methods import checkpoint, registry
from twoview.methods.losses.example import Example
from twoview.methods.method import Method, Options
from twoview.methods.registry import METHODS, Entry

ROOT = Path(__file__).parent.parent
# Other files that may have a method's name: there the word means something else, or a paper chose the methods.
ALLOWED = {
    "loaders/presets.py": "presets are named after the papers whose views they are",
    "bench/dataloader/targets.py": "presets",
    "bench/suites/gpu/correctness.py": "presets",
    "methods/key_layouts.py": "layouts of other projects' checkpoints",
    "bench/theory/images.py": "training with labels, as a word",
    "bench/config/assran2023.py": "the methods that one paper compares",
    "reports/imbalance.py": "the same paper's prior, by MSN and by PMSN",
    "reports/training_figures.py": "one paper's kernels, and SimCLR",
}


def nearness(z1, z2):
    return (z1 - z2).square().mean()


class ToyOptions(Options):
    """The `[method]` table of the toy."""

    name: Literal["toy"] = "toy"


class Toy(Method):
    """Pulls the views of an image together; the second view is drawn twice."""

    takes = 2
    default_views = "simclr-gray"
    examples = {"toy": Example(lambda z1, z2, label: nearness(z1, z2))}  # noqa: RUF012

    def __init__(self, options, encoder, views, classes):
        super().__init__(encoder, self.views_for(options, views))

    @classmethod
    def views_for(cls, options, views):
        first, second = super().views_for(options, views)
        return first, second, second

    @classmethod
    def uses_labels(cls, options):
        return True

    def loss(self, views, label, masks=()):
        z = [self.encode(view) for view in views]
        return {"loss": nearness(z[0], z[1]) + nearness(z[0], z[2])}


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", Entry(ToyOptions, Toy))


@pytest.fixture
def context(tmp_path):
    place = Place(tmp_path / "betons", tmp_path / "checkpoints", None)
    return Context(TINY, place, tmp_path / "evidence", time.monotonic() + 3600)


RECIPE = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 1
batch = 32
train_images = 64
precision = "fp32"
loader_threads = 1
[method]
name = "toy"
[backbone]
width = 4
[optim]
warmup_epochs = 0
"""


def test_a_new_method_is_trained_by_a_recipe(toy, tmp_path, betons):
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE)
    one = recipe.load(str(path))
    assert len(experiment.views_of(one)) == 3
    state = checkpoint.load(training.train(one, Place(betons, tmp_path / "checkpoints", None), resume=False))
    assert len(state["history"]["losses"]) == 2 and state["measured"]["training"]["views_per_epoch"] == 3 * 64


def test_the_gpu_suite_has_a_step_and_a_graph_of_a_new_method(toy, context):
    assert {steps.method_name("toy"), graphs.name_of("toy")} <= {step.name for step in suite.all_steps()}
    one = steps.recipe_of(TINY, "toy", 4)
    assert one.views == "simclr-gray" and one.backbone.name == "resnet18"
    *_, record = steps.measure_method(context, "toy")
    assert {figure.quantity for figure in record.figures} >= {"step_time", "step_rate"}
    *_, record = graphs.measure_method(context, "toy")
    assert record.figures[0].samples == [0.0], "two plain steps have the same loss"


def test_the_loss_of_a_new_method_is_timed_and_checked(toy, context):
    assert loss_cost.cost(Job("toy", "twoview", 16, 8))["ms"] > 0
    *_, record = correctness.losses(context)
    assert [figure.off for figure in record.figures if figure.work == "toy"] == [False, False]


def test_a_new_method_is_listed_and_known_to_use_labels(toy, capsys):
    assert cli.run(["list", "methods"]) == 0
    assert re.search(r"toy +Pulls the views of an image together", capsys.readouterr().out)
    assert recipe.uses_labels({"name": "toy"})


@pytest.mark.parametrize(
    ("table", "used"),
    [
        ({"name": "simclr"}, False),
        ({"name": "supcon"}, True),
        ({"name": "supervised"}, True),
        ({"name": "balanced"}, False),
        ({"name": "balanced", "oracle": 0.5}, True),
        ({"name": "balanced", "known_prior": True}, True),
        ({"name": "pmsn"}, False),
        ({"name": "pmsn", "prior": "classes"}, True),
        ({"name": "simclr", "key": "of another version"}, False),
        ({"name": "of another version"}, False),
    ],
)
def test_whether_labels_are_used_depends_on_the_options(table, used):
    assert recipe.uses_labels(table) == used


@pytest.mark.parametrize("name", METHODS)
def test_the_attributes_of_a_methods_class_are_true(name):
    kind = registry.entry(name).method
    parameters = inspect.signature(kind.loss).parameters
    assert list(parameters) == ["self", "views", "label", "masks"] and parameters["masks"].default == ()
    one = steps.recipe_of(TINY, name, 4)
    with torch.device("meta"):
        method = experiment.build_method(one)
    assert method.views == experiment.views_of(one)
    patch = getattr(method.encoder, "patch", None)
    assert method.masks == kind.masks_for(one.method, method.views, patch)
    on_a_resnet = recipe.parse(one.model_dump(mode="json") | {"backbone": {"name": "resnet18"}}, name)
    if kind.needs_vit:
        with pytest.raises(ValueError, match=f"{name}.* takes a ViT"):
            experiment.outline(on_a_resnet)
    else:
        experiment.outline(on_a_resnet)


def test_no_method_is_named_outside_its_own_files():
    """As a whole string, as in a table of names or a comparison with a name."""
    found = {}
    for floor in ("twoview", "reports", "bench", "methods", "loaders"):
        for file in (ROOT / floor).rglob("*.py"):
            place = file.resolve().relative_to(ROOT).as_posix()
            strings = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
            own = {file.stem.replace("_", "-")} if floor == "methods" else set()
            if named := (strings & METHODS.keys()) - own:
                found[place] = named
    of_losses = {place for place in found if place.startswith("methods/losses/")}
    assert found.keys() - of_losses - {"methods/registry.py"} == ALLOWED.keys(), found
