"""Recipes: every one of the package loads; what is wrong in one is named with file, key and value."""

import re

import pytest

from bench import recipe
from bench.experiment import build_method
from loaders import presets

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


@pytest.mark.parametrize("path", recipe.all_files(), ids=lambda path: path.stem)
def test_every_recipe_loads_and_builds(path):
    one = recipe.load(path.stem)
    assert one.name == path.stem and one.source
    assert build_method(one).views == presets.preset(one.views, one.size)


def test_values_and_defaults(written):
    one = recipe.load(written(GOOD))
    assert (one.name, one.method.temperature, one.method.projection, one.optim.lr) == ("mine", 0.3, 128, 0.5)
    assert recipe.parse(one.model_dump(mode="json"), "round trip") == one


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("size = 28", "size = 28\nsiez = 3", "siez: unknown key"),
        ("temperature = 0.3", "temprature = 0.3", "method.temprature: unknown key"),
        ("lr = 0.5", 'lr = "high"', "optim.lr: .*number.* not 'high'"),
        ("lr = 0.5", "lr = -1", "optim.lr: .*greater than 0, not -1"),
        ("batch = 8", "batch = 8.5", "batch: .*integer.* not 8.5"),
        ("temperature = 0.3", "temperature = 0", "method.temperature: .*greater than 0, not 0"),
        ("epochs = 2", "", "epochs: missing key"),
        ("epochs = 2", "epochs = 2\nseed = -1", "seed: .*greater than or equal to 0, not -1"),
        ("[method]\n", "", "unknown method 'None'"),
        ('name = "simclr"', 'name = "simclar"', r"unknown method 'simclar': did you mean simclr\?"),
        ('views = "simclr-gray"', 'views = "simclr-grey"', r"unknown views 'simclr-grey': did you mean simclr-gray\?"),
        ('"fashion-mnist"', '"fashion"', r"unknown dataset 'fashion': did you mean fashion-mnist\?"),
        ("size = 28", "size 28", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(written, old, new, complaint):
    path = written(GOOD.replace(old, new))
    assert old in GOOD
    with pytest.raises(ValueError, match=rf"{re.escape(path)}.*{complaint}"):
        recipe.load(path)


def test_an_unknown_recipe_is_an_error_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"'quick-cifar': did you mean quick-cifar10\?"):
        recipe.load("quick-cifar")
    with pytest.raises(FileNotFoundError, match=r"no recipe file at .*gone\.toml"):
        recipe.load(str(tmp_path / "gone.toml"))
