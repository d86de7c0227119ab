"""The schema of recipes: errors name the file, key and value; bases; provenance."""

import os
import re

import numpy as np
import pytest
import torch

from twoview.bench.config import experiment, recipe
from twoview.methods import ranks

GOOD = """
source = "a test"
dataset = "fashion-mnist"
views = "simclr-gray"
size = 28
epochs = 2
batch = 8
[method]
name = "simclr"
temperature = 0.3
[optim]
lr = 0.5
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


def test_values_and_defaults(written):
    one = recipe.load(written(GOOD))
    assert (one.name, one.method.temperature, one.method.projection, one.optim.lr) == ("mine", 0.3, 128, 0.5)
    assert recipe.parse(one.model_dump(mode="json"), "round trip") == one


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("size = 28", "size = 28\nsiez = 3", "siez is not a known key"),
        ("temperature = 0.3", "temprature = 0.3", "method.temprature is not a known key"),
        ("lr = 0.5", 'lr = "high"', "optim.lr must be .*number.* got 'high'"),
        ("lr = 0.5", "lr = -1", "optim.lr must be .*greater than 0, got -1"),
        ("batch = 8", "batch = 8\naccumulate = 3", "batch must be divisible by accumulate, 3, got 8$"),
        ("batch = 8", "batch = 8\naccumulate = 0", "accumulate must be greater than 0, got 0"),
        ("batch = 8", "batch = 8.5", "batch must be .*integer.* got 8.5"),
        ("temperature = 0.3", "temperature = 0", "method.temperature must be .*greater than 0, got 0"),
        ("epochs = 2", "", "epochs is missing"),
        ("epochs = 2", "epochs = 2\nseed = -1", "seed must be greater than or equal to 0, got -1"),
        ("[method]\n", "", "unknown method 'None'"),
        ('name = "simclr"', 'name = "simclar"', r"unknown method 'simclar': did you mean simclr\?"),
        ('views = "simclr-gray"', 'views = "simclr-gary"', r"unknown views 'simclr-gary': did you mean simclr-gray"),
        ('"fashion-mnist"', '"fashion"', r"unknown dataset 'fashion': did you mean fashion-mnist\?"),
        ("size = 28", "size 28", "is not TOML"),
        (
            "size = 28",
            "size = 28\nclasses_per_batch = -1",
            "classes_per_batch must be greater than or equal to 0, got -1",
        ),
        (
            "size = 28",
            "size = 28\nclasses_per_batch = 11",
            "classes_per_batch must be at most 10, .* fashion-mnist, got 11",
        ),
        (
            "[optim]",
            "[long_tail]\nratio = 0.5\n[optim]",
            "long_tail.ratio must be greater than or equal to 1, got 0.5",
        ),
        (
            "[optim]",
            '[long_tail]\nkind = "linear"\n[optim]',
            "long_tail.kind must be .*'exponential' or 'power', got 'linear'",
        ),
        ("[optim]", "[expected]\nlinear_top1 = 90.0\n[optim]", "expected: .*an expected accuracy needs a provenance"),
        ("[optim]", '[expected]\nprovenance = "I think"\n[optim]', "expected.provenance must match .*, got 'I think'"),
        ("[optim]", "[budget]\ngpus = 0\n[optim]", "budget.gpus must be .*greater than 0, got 0"),
        ("size = 28", 'size = 28\nname = "../x"', "name: the name of a recipe must .* letters.* got '../x'"),
        ("size = 28", 'size = 28\nname = "/tmp/x"', "name: the name of a recipe must consist of ASCII letters"),
        ("size = 28", 'size = 28\nname = ".."', "name: the name of a recipe must .*not begin with a dot"),
        ("size = 28", 'size = 28\nname = "a\\u0000b"', r"name: the name of a recipe .* got 'a\\x00b'"),
        (
            "size = 28",
            f'size = 28\nname = "{"a" * 101}"',
            "name: the name of a recipe must have at most 100 characters",
        ),
        ("size = 28", "size = 28\nname = 3", "name must be .*valid string, got 3"),
        ('"fashion-mnist"', '"hf:../../x"', r"the name of a dataset must .* got '\.\.'"),
        ('name = "simclr"', 'name = ["simclr"]', "unknown method"),
        ("lr = 0.5", "lr = inf", "optim.lr must be .*finite number, got inf"),
        ("lr = 0.5", "lr = nan", "optim.lr must be .*finite number, got nan"),
        ("lr = 0.5", "lr = 0.5\nsteps = [inf]", "optim.steps.0 must be .*finite number, got inf"),
        ("lr = 0.5", "lr = 0.5\nwarmup_epochs = 3", "optim.warmup_epochs must be at most the epochs, 2, got 3"),
        ("temperature = 0.3", "hidden = 10_000_000_000", "method.hidden must be at most 131,072, got"),
        ("temperature = 0.3", "layers = 100_000", "method.layers must be at most 1,000, got"),
        ("size = 28", "size = 1_000_000", "size: a square of this side must have at most 178,956,970 pixels"),
        ("epochs = 2", "epochs = 10_000_000_000", "epochs must be at most 1,000,000, got"),
        ("batch = 8", "batch = 10_000_000_000", "batch must be at most 1,048,576, got"),
        ("batch = 8", "batch = 8\nloader_threads = 100_000", "loader_threads must be at most 1,024, got"),
        ("batch = 8", f"batch = {'9' * 5000}", "is not TOML"),
        ("batch = 8", f"batch = 0x{'f' * 9000}", "batch must be at most 1,048,576, got far more"),
        ("batch = 8", f"batch = 8\nx = {'[' * 2000}{']' * 2000}", "is not a recipe: its tables are nested too deeply"),
        ("batch = 8", f"batch = 8\n{'a.' * 9000}a = 1", "is not a recipe: there must be at most 1,000 dots"),
        ("a test", "a" * 20_001, "source must have at most 20,000 characters"),
        ("a test", "a" * 40_000, "must have at most 32,768 bytes, got 40,"),
        ("size = 28", "size = 28\nbase = 3", "base must be the name of a recipe, or a TOML file"),
        (
            "size = 28",
            'size = 28\nbase = "quick-cifr"',
            r"base: unknown recipe 'quick-cifr': did you mean quick-cifar10\?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file(written, old, new, complaint):
    path = written(GOOD.replace(old, new, 1))
    assert old in GOOD
    with pytest.raises(ValueError, match=rf"{re.escape(path)}.*{complaint}") as caught:
        recipe.load(path)
    assert len(str(caught.value)) < 10_000


def test_a_folder_a_pipe_and_a_device_are_not_recipes(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "device.toml").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "device"):
        with pytest.raises(
            ValueError, match=rf"a recipe must be a TOML file, but .*{name}\.toml is a folder, a pipe or"
        ):
            recipe.load(str(tmp_path / f"{name}.toml"))


def test_the_file_name_must_be_a_valid_recipe_name(tmp_path):
    path = tmp_path / "my recipe.toml"
    path.write_text(GOOD)
    with pytest.raises(ValueError, match=r"my recipe\.toml: name: the name of a recipe must .* got 'my recipe'"):
        recipe.load(str(path))
    path.write_text('name = "mine"\n' + GOOD)
    assert recipe.load(str(path)).name == "mine"


def test_a_base_is_relative_to_its_recipes_folder(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "base.toml").write_text(GOOD)
    child = tmp_path / "a" / "b" / "child.toml"
    child.write_text('source = "mine"\nbase = "../base.toml"\nepochs = 7\n')
    monkeypatch.chdir(tmp_path)
    assert (recipe.load("a/b/child.toml").epochs, recipe.load(str(child)).batch) == (7, 8)
    monkeypatch.chdir(tmp_path / "a")
    child.write_text('source = "mine"\nbase = "base.toml"\n')  # exists only in the current folder
    with pytest.raises(ValueError, match=r"child\.toml: base: no recipe file at .*b/base\.toml"):
        recipe.load(str(child))


def test_a_records_recipe_is_not_compared_with_a_file_in_the_current_folder(written, tmp_path, monkeypatch):
    one = recipe.load(written('name = "mine.toml"\n' + GOOD))
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "mine.toml").exists() and recipe.overrides(one) is None


WIDE = {"method": {"name": "simclr", "hidden": 131072, "projection": 131072}}


def test_weights_and_batches_too_large_for_memory_are_refused_before_allocation(written, fashion, monkeypatch):
    values = recipe.load(written(GOOD)).model_dump(mode="json")
    monkeypatch.setattr(experiment, "memory_limit", lambda: 2**30)
    with pytest.raises(ValueError, match=r"mine: its weights must fit into 1\.0 GiB of memory, got 64\.1 GiB"):
        experiment.build_method(recipe.parse(values | WIDE, "x"))
    one = recipe.parse(values | {"size": 5600}, "x")
    method = experiment.build_method(recipe.parse(values, "x"))
    method.views = experiment.views_of(one)
    with pytest.raises(ValueError, match=r"a batch must fit into 1\.0 GiB .*, but the views of 8 images take 1\.4 GiB"):
        experiment.train_loader(one, fashion, method, torch.device("cpu"))


def test_no_network_is_built_to_count_views(written, monkeypatch):
    one = recipe.load(written(GOOD))
    views = experiment.build_method(one).views
    monkeypatch.setattr(experiment.backbones, "build", lambda *args: pytest.fail("a network is built"))
    assert experiment.views_of(one) == views


@pytest.mark.parametrize("make", [experiment.build_method, experiment.outline])
def test_building_a_method_leaves_torchs_generator_unchanged(written, make):
    one, before = recipe.load(written(GOOD)), torch.get_rng_state()
    make(one)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_is_seeded_regardless_of_earlier_draws(written):
    """A method that draws while it trains continues after the draws of its weights."""
    one = recipe.load(written(GOOD)).model_copy(update={"seed": 3})
    torch.manual_seed(3)
    ours = experiment._made(one).state_dict()
    behind = torch.rand(4)
    torch.rand(7)
    trainer = experiment.trainer(one, torch.device("cpu"), "fp32")
    assert torch.equal(torch.rand(4), behind) and torch.initial_seed() == 3, "other ranks' seeds are derived from it"
    assert all(torch.equal(weights, ours[name]) for name, weights in trainer.method.state_dict().items())


def odd_weights(weights):
    first = next(iter(weights))
    yield {key: value for key, value in weights.items() if key != first}, f"{first} is missing"
    yield weights | {"more": torch.ones(1)}, "more is unexpected"
    yield weights | {first: weights[first].reshape(-1)[:1]}, rf"{first} must be torch.float32 \(.*\), got .*\(1,\)"
    yield weights | {first: weights[first].double()}, f"{first} must be torch.float32 .*, got torch.float64"
    yield weights | {first: weights[first] * float("nan")}, f"{first} must be finite"


def test_weights_of_another_method_are_reported_in_one_sentence(written, tmp_path):
    one = recipe.load(written(GOOD))
    for weights, complaint in odd_weights(experiment.build_method(one).state_dict()):
        with pytest.raises(ValueError, match=rf"sent\.pt(:| does not hold the weights of its own recipe:) {complaint}"):
            experiment.trained_method(one, weights, tmp_path / "sent.pt")


def test_an_unknown_recipe_error_suggests_the_nearest_name(tmp_path):
    with pytest.raises(ValueError, match=r"'quick-cifar': did you mean quick-cifar10 or .*\? \d+ names are known"):
        recipe.load("quick-cifar")
    with pytest.raises(FileNotFoundError, match=r"no recipe file at .*gone\.toml"):
        recipe.load(str(tmp_path / "gone.toml"))


def test_a_recipe_inherits_all_but_source_and_expected_from_its_base(tmp_path):
    base, child, grandchild = (tmp_path / f"{name}.toml" for name in ("base", "child", "grandchild"))
    base.write_text(GOOD + '[expected]\nlinear_top1 = 90.0\nprovenance = "found: a test"\n[budget]\ngpus = 3\n')
    child.write_text(f'source = "mine"\nbase = "{base}"\nepochs = 7\n[method]\nname = "simclr"\nhidden = 5\n')
    one = recipe.load(str(child))
    assert (one.name, one.source, one.epochs, one.batch, one.optim.lr, one.budget.gpus) == (
        "child",
        "mine",
        7,
        8,
        0.5,
        3,
    )
    assert (one.method.hidden, one.method.temperature) == (5, 0.5), "a whole table is the child's or the base's"
    assert one.expected.linear_top1 is None
    child.write_text(f'base = "{base}"\n')
    with pytest.raises(ValueError, match=r"child\.toml: source is missing"):
        recipe.load(str(child))
    grandchild.write_text(f'source = "x"\nbase = "{child}"\n')
    with pytest.raises(ValueError, match=r"grandchild\.toml: base: .*child\.toml has a base itself"):
        recipe.load(str(grandchild))


def test_settings_exclude_what_does_not_affect_the_outcome(written):
    one = recipe.load(written(GOOD))
    other = recipe.load(written(GOOD.replace("a test", "another") + "[budget]\ngpus = 1\n"))
    assert one != other and one.settings() == other.settings()
    assert one.settings() != recipe.load(written(GOOD.replace("batch = 8", "batch = 9"))).settings()


def test_held_out_images_match_torchs_random_split():
    """With seed 42 and the last images held out, as in lightning-bolts' data modules, which Tan et al.'s code uses."""
    labels = np.arange(1000) % 10
    generator = torch.Generator().manual_seed(42)
    kept, _ = torch.utils.data.random_split(range(1000), [900, 100], generator=generator)
    assert experiment.chosen(labels, 100, 0).tolist() == sorted(kept.indices)
    some = experiment.chosen(labels, 100, 50)
    assert set(some) <= set(kept.indices) and np.bincount(labels[some]).tolist() == [5] * 10
    assert experiment.chosen(labels, 0, 0).tolist() == list(range(1000))
    with pytest.raises(ValueError, match="1000 images cannot be held out of 1000"):
        experiment.chosen(labels, 1000, 0)


def test_the_batch_of_each_rank_is_divided_into_the_parts(written, fashion, monkeypatch):
    one = recipe.load(written(GOOD.replace("batch = 8", "batch = 8\naccumulate = 8")))
    method = experiment.build_method(one)
    experiment.train_loader(one, fashion, method, torch.device("cpu"))
    monkeypatch.setattr(experiment.ranks, "world", lambda: 2)
    with pytest.raises(ValueError, match=r"^the batch of a rank must be divisible by accumulate, 8, got 4$"):
        experiment.train_loader(one, fashion, method, torch.device("cpu"))


def test_every_batch_has_k_classes(written, fashion):
    one = recipe.load(written(GOOD.replace("batch = 8", "batch = 32\nclasses_per_batch = 3\ntrain_images = 500")))
    method = experiment.build_method(one)
    with experiment.train_loader(one, fashion, method, torch.device("cpu")) as loader:
        batches = [batch.label for batch in loader.epoch(0)]
    assert len(batches) == 500 // 32
    assert all(len(label.unique()) == 3 for label in batches)


@pytest.mark.parametrize(("per_rank", "each", "together"), [(False, 4, 4), (True, 4, 8)])
def test_k_classes_are_per_batch_or_per_rank(written, fashion, monkeypatch, per_rank, each, together):
    keys = f"batch = 64\nclasses_per_batch = 4\nclasses_per_rank = {str(per_rank).lower()}\ntrain_images = 500"
    one = recipe.load(written(GOOD.replace("batch = 8", keys)))
    method = experiment.build_method(one)
    monkeypatch.setattr(ranks, "world", lambda: 2)
    of_ranks = []
    for rank in range(2):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        with experiment.train_loader(one, fashion, method, torch.device("cpu")) as loader:
            of_ranks.append([batch.label for batch in loader.epoch(1)])
    assert len(of_ranks[0]) == 500 // 64
    for labels in zip(*of_ranks, strict=True):
        assert all(len(label) == 32 and len(label.unique()) == each for label in labels)
        assert len(torch.cat(labels).unique()) == together


def test_a_resumed_run_sees_the_same_batches_of_k_classes(written, fashion):
    keys = "batch = 32\nclasses_per_batch = 3\nwith_replacement = true\ntrain_images = 500"
    one = recipe.load(written(GOOD.replace("batch = 8", keys)))
    method = experiment.build_method(one)

    def loader():
        return experiment.train_loader(one, fashion, method, torch.device("cpu"))

    with loader() as whole:
        indices = [batch.index.tolist() for batch in whole.epoch(2)]
    with loader() as first, first.epoch(2) as batches:
        assert [next(batches).index.tolist() for _ in range(5)] == indices[:5]
        state = first.state_dict()
    with loader() as second:
        second.load_state_dict(state)
        assert [batch.index.tolist() for batch in second.epoch(2)] == indices[5:]


def test_a_long_tail_subsamples_the_training_images(written):
    keys = 'train_images = 2000\nheld_out = 100\n[long_tail]\nratio = 10\nkind = "power"\n'
    one = recipe.load(written(GOOD.replace("[method]", keys + "[method]")))
    labels = np.arange(6000) % 10
    used = experiment.train_images(one, labels)
    assert np.bincount(labels[used]).tolist() == [int(200 * (c + 1) ** -1 + 1e-9) for c in range(10)]
    assert set(used) <= set(experiment.chosen(labels, 100, 2000))
    plain = recipe.load(written(GOOD))
    assert experiment.train_images(plain, labels).tolist() == list(range(6000))


def test_overrides_are_the_differences_from_the_recipes_file():
    one = recipe.load("lee2025-imagenet-simclr")
    assert recipe.overrides(one) == {}
    values = one.model_dump(mode="json")
    changed = values | {"seed": 3, "method": values["method"] | {"temperature": 0.2}, "source": "elsewhere"}
    assert recipe.overrides(recipe.parse(changed, "r")) == {"seed": 3, "method.temperature": 0.2}
    assert recipe.overrides(recipe.parse(values | {"name": "mine"}, "r")) is None
