"""Your own images in place of a dataset: what is found, what is held out, and what is refused."""

import io
import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from twoview.bench.config import recipe as recipes
from twoview.bench.data import own
from twoview.cli import run
from twoview.loaders import presets
from twoview.loaders.beton import open_beton
from twoview.loaders.loader import Loader


def picture(seed: int, format: str = "PNG", side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def folder_of(root: Path, classes: dict[str, int], first: int = 0) -> Path:
    """Write `count` images for each class; with the class "" they lie in the folder itself."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            (root / name / f"{number:03d}.png").write_bytes(picture(hash((len(name), number)) % 1000))
    return root


def small(data: Path | str, **settings: object) -> recipes.Recipe:
    changes = {
        "data": str(data),
        "epochs": 1,
        "batch": 8,
        "train_images": 0,
        "backbone.name": "resnet-tiny",
        **settings,
    }
    return recipes.with_values(recipes.load("quick-cifar10"), changes)


def ok(capsys, *words):
    assert run([str(word) for word in (*words, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words):
    assert run([*map(str, words)]) == 2
    return capsys.readouterr().err


def test_contents_are_found_once_and_stand_in_the_recipe(tmp_path):
    data = folder_of(tmp_path / "pets", {"cat": 10, "dog": 7})
    recipe = own.read(small(data), tmp_path / "betons")
    contents = recipe.contents
    assert recipe.dataset == contents.name and contents.name.startswith("own:pets-")
    assert contents.classes == ("cat", "dog") and contents.images == {"train": 14, "test": 3} and contents.held_out
    (path,) = (tmp_path / "betons").iterdir()
    written = path.stat().st_mtime_ns
    assert own.read(small(data), tmp_path / "betons") == recipe and path.stat().st_mtime_ns == written
    assert recipes.parse(recipe.model_dump(mode="json"), "again") == recipe
    dataset = recipes.dataset_of(recipe)
    train, test = (own.split_of(dataset, split, tmp_path / "betons") for split in ("train", "test"))
    assert sorted([*train.samples, *test.samples]) == list(range(17))
    assert open_beton(path).about["classes"] == ["cat", "dog"] and open_beton(path).about["source"] == str(data)


def test_changed_images_are_converted_again_and_are_not_those_of_the_recipe(tmp_path):
    data = folder_of(tmp_path / "pets", {"cat": 5, "dog": 5})
    recipe = own.read(small(data), tmp_path / "betons")
    (data / "cat" / "000.png").write_bytes(picture(5000))
    with pytest.raises(
        ValueError, match=rf"the train images at .*pets must be those of {recipe.dataset} \(hash .*, got others"
    ):
        own.split_of(recipes.dataset_of(recipe), "train", tmp_path / "betons")
    again = own.read(small(data), tmp_path / "betons")
    assert again.dataset != recipe.dataset and len(list((tmp_path / "betons").iterdir())) == 2


@given(labels=st.lists(st.integers(-1, 4), min_size=1, max_size=60))
def test_a_fifth_of_each_class_is_held_out(labels):
    labels = np.array(labels)
    chosen = own.held_out(labels)
    assert not chosen[labels < 0].any() and np.array_equal(chosen, own.held_out(labels.copy()))
    for label in set(labels[labels >= 0]):
        count = (labels == label).sum()
        assert chosen[labels == label].sum() == (0 if count == 1 else max(1, count // 5))


def test_mean_and_deviation_are_those_of_the_views(tmp_path):
    data = folder_of(tmp_path / "pets", {"": 9})
    recipe = own.read(small(data), tmp_path / "betons")
    pixels = np.stack([np.array(Image.open(file)) for file in sorted(data.iterdir())]) / 255
    assert np.allclose(recipe.contents.mean, pixels.mean((0, 1, 2)), atol=6e-5)
    assert np.allclose(recipe.contents.std, pixels.std((0, 1, 2)), atol=6e-5)
    from twoview.bench.config.experiment import normalize_for
    from twoview.loaders.datasets import IMAGENET_MEAN

    assert torch.allclose(normalize_for(recipe).shift.flatten(), 255 * torch.tensor(recipe.contents.mean))
    imagenet = recipes.with_values(recipe, {"normalize": "imagenet"})
    assert torch.allclose(normalize_for(imagenet).shift.flatten(), 255 * torch.tensor(IMAGENET_MEAN))


def test_images_for_testing_get_the_labels_of_the_training_classes(tmp_path):
    train = folder_of(tmp_path / "train-images", {"ant": 3, "bee": 3, "cat": 3})
    test = folder_of(tmp_path / "others", {"cat": 2, "bee": 1}, first=50)
    recipe = own.read(small(train, test_data=str(test)), tmp_path / "betons")
    file = own.split_of(recipes.dataset_of(recipe), "test", tmp_path / "betons")
    assert file.labels.tolist() == [1, 2, 2] and recipe.contents.images == {"train": 9, "test": 3}
    folder_of(tmp_path / "others", {"wolf": 1})
    with pytest.raises(
        ValueError, match=r"others must only have classes of the training images, got 1 classes \(wolf\) more"
    ):
        own.read(small(train, test_data=str(test)), tmp_path / "betons")


def test_a_part_of_a_beton_is_read_like_a_file_of_its_own(photographs):
    part = photographs.only(np.array([5, 3, 40]), np.array([1, 0, 2]))
    again = pickle.loads(pickle.dumps(part))
    for file in (part, again):
        assert len(file) == 3 and file.labels.tolist() == [1, 0, 2] and file.index == photographs.index
        views = presets.preset("eval", 64)
        with (
            Loader(file, views, 3, shuffle=False, threads=1) as ours,
            Loader(photographs, views, 3, indices=[5, 3, 40], shuffle=False, threads=1) as theirs,
        ):
            assert torch.equal(next(ours.epoch(0)).views[0], next(theirs.epoch(0)).views[0])
    assert part.only(np.array([2])).samples.tolist() == [40]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"method": {"name": "supervised"}, "views": "supervised-small"}, "method supervised"),
        ({"long_tail.ratio": 10}, "long_tail"),
        ({"classes_per_batch": 2}, "classes_per_batch"),
        ({"probe.online": True}, "probe.online"),
    ],
)
def test_what_needs_labels_says_so(settings, key, tmp_path):
    data = folder_of(tmp_path / "photos", {"": 9})
    with pytest.raises(ValueError, match=f"{key} needs labels, and the images at .*photos have none"):
        own.read(small(data, **settings), tmp_path / "betons")


def test_own_data_need_a_dataset_or_a_path():
    values = recipes.load("quick-cifar10").model_dump(mode="json")
    with pytest.raises(ValueError, match="a recipe needs a dataset, or data with the path of your own images"):
        recipes.parse(values | {"dataset": ""}, "x")
    with pytest.raises(ValueError, match="test_data can only be given together with data"):
        recipes.parse(values | {"test_data": "y"}, "x")
    assert recipes.parse(values | {"data": "hf:a/b"}, "x").dataset == "hf:a/b"


def test_a_path_in_a_recipe_is_relative_to_its_file(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "quick-cifar10"\nsource = "mine"\ndata = "pets"\n')
    recipe = recipes.load(str(tmp_path / "mine.toml"))
    assert recipe.data == str(tmp_path / "pets") and recipe.dataset == "own:pets"


def test_training_on_class_folders_and_probing(tmp_path, capsys):
    data = folder_of(tmp_path / "pets", {"cat": 20, "dog": 20})
    words = ("--data", data, "--epochs", 1, "--batch", 8, "--backbone.name", "resnet-tiny", "--probe.k", 5)
    trained = ok(capsys, "train", "quick-cifar10", *words, "--out", tmp_path / "out")
    found = ok(capsys, "probe", trained["checkpoint"], "--evidence-dir", tmp_path / "evidence", "--baselines")
    assert found["trained"]["train_images"] == 32 and found["trained"]["test_images"] == 8
    records = list((tmp_path / "evidence").glob("*.json"))
    assert len(records) == 3
    for record in records:
        assert json.loads(record.read_text())["recipe"]["contents"]["classes"] == ["cat", "dog"]
        assert str(tmp_path) not in record.read_text(), "a record has no path of this machine"
    others = folder_of(tmp_path / "others", {"x": 10, "y": 10, "z": 10})
    found = ok(capsys, "probe", trained["checkpoint"], "--data", others, "--probes", "knn")
    (name,) = found["datasets"]
    assert name.startswith("own:others-")
    folder_of(tmp_path / "pets", {"cat": 1}, first=100)
    assert "must be those of own:pets-" in refused(capsys, "probe", trained["checkpoint"])


def test_training_without_labels(tmp_path, capsys):
    data = folder_of(tmp_path / "photos", {"": 20})
    words = ("--data", data, "--epochs", 1, "--batch", 8, "--backbone.name", "resnet-tiny")
    trained = ok(capsys, "train", "quick-cifar10", *words, "--out", tmp_path / "out")
    assert "needs labels, and own:photos-" in refused(capsys, "probe", trained["checkpoint"])


def test_a_run_goes_on_only_with_the_same_images(tmp_path, capsys):
    data = folder_of(tmp_path / "photos", {"": 20})
    words = ["train", "quick-cifar10", "--data", data, "--epochs", 1, "--batch", 8, "--backbone.name", "resnet-tiny"]
    words += ["--out", tmp_path / "out"]
    ok(capsys, *words)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    folder_of(tmp_path / "photos", {"": 21})
    assert "dataset must be 'own:photos-" in refused(capsys, *words, "--resume")


def test_stock_ffcvs_beton_trains_and_probes(tmp_path, capsys):
    """Its fields have other names, and another field is between them."""
    script = textwrap.dedent(f"""
        import numpy as np
        from ffcv.fields import FloatField, IntField, RGBImageField
        from ffcv.writer import DatasetWriter

        class Data:
            def __len__(self):
                return 40
            def __getitem__(self, i):
                return np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8), i / 2, i % 4

        fields = {{"img": RGBImageField(), "weight": FloatField(), "lbl": IntField()}}
        DatasetWriter({str(tmp_path / "stock.ffcv")!r}, fields, num_workers=1).from_indexed_dataset(Data())
    """)
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    words = ("--data", tmp_path / "stock.ffcv", "--epochs", 1, "--batch", 8, "--backbone.name", "resnet-tiny")
    trained = ok(capsys, "train", "quick-cifar10", *words, "--probe.k", 5, "--out", tmp_path / "out")
    found = ok(capsys, "probe", trained["checkpoint"])
    assert found["trained"]["train_images"] == 32 and found["trained"]["test_images"] == 8
    assert not list((tmp_path / "out" / "betons").glob("*")), "a beton is read where it is"


def test_a_folder_under_the_name_of_a_dataset_is_not_called_by_it(tmp_path, capsys):
    data = folder_of(tmp_path / "cifar10", {"cat": 5, "dog": 5})
    assert own.read(small(data), tmp_path / "betons").dataset.startswith("own:cifar10-")
    ok(capsys, "convert", data, tmp_path / "betons" / "cifar10-train.beton")
    words = ("--epochs", 1, "--batch", 8, "--out", tmp_path / "out", "--betons", tmp_path / "betons")
    said = refused(capsys, "train", "quick-cifar10", *words)
    assert "must be converted from cifar10's train images, but was converted from own:cifar10's train images" in said


def test_a_plan_of_own_data_converts_nothing(tmp_path, capsys):
    folder_of(tmp_path / "pets", {"cat": 5, "dog": 5})
    (tmp_path / "mine.toml").write_text('base = "quick-cifar10"\nsource = "mine"\ndata = "pets"\nbatch = 8\n')
    assert ok(capsys, "plan", tmp_path / "mine.toml")["batch"] == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.toml", "pets"]


def test_images_skipped_before_are_not_skipped_silently(tmp_path):
    data = folder_of(tmp_path / "pets", {"cat": 5, "dog": 5})
    (data / "cat" / "broken.png").write_bytes(b"x")
    recipe = own.read(small(data, damaged="skip"), tmp_path / "betons")
    assert recipe.contents.images == {"train": 8, "test": 2}
    assert len(own.split_of(recipes.dataset_of(recipe), "test", tmp_path / "betons")) == 2, "for the probes"
    with pytest.raises(
        ValueError, match=r"1 of the images at .*pets cannot be read, such as cat/broken\.png: skip or mend"
    ):
        own.read(small(data), tmp_path / "betons")


def test_a_dataset_that_is_named_later_takes_the_place_of_own_images(tmp_path):
    mine = small(tmp_path / "pets")
    assert recipes.with_values(mine, {"dataset": "cifar100"}).data is None
    (tmp_path / "base.toml").write_text('base = "quick-cifar10"\nsource = "mine"\ndata = "pets"\n')
    values = recipes.load(str(tmp_path / "base.toml")).model_dump(mode="json", exclude={"base"})
    assert values["dataset"] == "own:pets"


def test_odd_paths_are_refused_in_a_sentence(tmp_path, capsys):
    data = folder_of(tmp_path / "pets", {"cat": 5, "dog": 5})
    assert "data must have at least 1 character" in refused(capsys, "train", "quick-cifar10", "--data", "")
    (tmp_path / "empty").mkdir()
    assert "empty holds no image" in refused(capsys, "convert", tmp_path / "empty", tmp_path / "x.beton")
    image = data / "cat" / "000.png"
    assert "a .beton file needs no conversion" in refused(capsys, "convert", image, tmp_path / "x.beton")
    own.read(small(data, test_data=str(data)), tmp_path / "betons")
    assert "pets are the training images, so accuracies are not of new images" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_is_trained_on_is_said(tmp_path, capsys):
    own.read(small(folder_of(tmp_path / "pets", {"cat": 5, "dog": 5})), tmp_path / "betons")
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "8 train images and 2 test images of 2 classes (cat, dog); one image in five of each class is held out" in said
    )
    own.read(small(folder_of(tmp_path / "photos", {"": 9})), tmp_path / "betons")
    said = " ".join(capsys.readouterr().err.split())
    assert "9 train images without labels" in said and "probe.test_images" not in said
