"""`twoview export`: the files are loaded by the code in the model card, and give the features that the probes see."""

import json
import re
from contextlib import chdir

import numpy as np
import pytest
import torch
from PIL import Image

from twoview.bench.config.experiment import build_method, normalize_for
from twoview.bench.config.recipe import load, parse
from twoview.bench.export import graphs
from twoview.cli import run
from twoview.exporting import export
from twoview.loaders import beton, presets
from twoview.loaders.datasets.samples import samples_from_arrays
from twoview.loaders.files import whole_folder
from twoview.loaders.loader import Loader
from twoview.methods import checkpoint

TINY = {"name": "resnet-tiny", "width": 8}
MINI = {"name": "vit-mini", "patch": 4}
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def trained(folder, backbone, method="cifar10-simclr", size=32):
    """Write a checkpoint whose every weight and running statistic has been moved from its start. Return its path."""
    plain = load(method).model_dump(mode="json")
    recipe = parse(plain | {"size": size, "backbone": backbone or plain["backbone"]}, method)
    moved = build_method(recipe).state_dict()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in moved.items():
        if tensor.is_floating_point():
            by = 0.05 * torch.randn(tensor.shape, generator=generator)
            tensor += by.abs() if name.endswith("running_var") else by
    path = folder / "checkpoints" / "run-seed0.pt"
    checkpoint.save(path, {"epoch": 1, "recipe": recipe.model_dump(mode="json"), "method": moved})
    return path


def network(path, average=False):
    """The network in a checkpoint, with the normalization of its recipe, as the probes use them."""
    state = checkpoint.load(path)
    recipe = parse(state["recipe"], str(path))
    method = build_method(recipe)
    method.load_state_dict(state["method"])
    return (method.averaged if average else method.probed).eval(), normalize_for(recipe)


def by_the_card(folder, pixels):
    """The features of an image by each of the card's blocks of code, run in the folder as they are."""
    Image.fromarray(pixels).save(folder / "image.jpg", "PNG")  # PIL goes by the content: PNG keeps the pixels
    card = (folder / "README.md").read_text()
    found = []
    with chdir(folder):
        for block in PYTHON.findall(card):
            names = {}
            exec(block, names)
            found.append(np.asarray(names["features"]))
    (folder / "image.jpg").unlink()
    return found


def some_pixels(size=32):
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


@torch.no_grad()
def expected(path, pixels, average=False):
    encoder, normalize = network(path, average)
    return encoder(normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None])).numpy()


def off(features, truth):
    """The largest difference, relative to the largest feature."""
    return np.abs(features - truth).max() / np.abs(truth).max()


@pytest.mark.parametrize(
    ("backbone", "keys"),
    [
        (TINY, None),
        ({"name": "wide-resnet", "depth": 10, "widen": 1}, None),
        ({"name": "alexnet", "width": 8}, None),
        ({"name": "resnet18"}, None),
        ({"name": "resnet18"}, "timm"),
        ({"name": "resnet50", "stem": "imagenet"}, "torchvision"),
        pytest.param({"name": "resnet50", "stem": "imagenet"}, "timm", marks=pytest.mark.long),
        (MINI, None),
        (MINI, "torchvision"),
        (MINI, "twoview"),
        ({**MINI, "positions": "sincos"}, "timm"),
        ({**MINI, "positions": "sincos"}, "torchvision"),
        ({**MINI, "positions": "sincos"}, "twoview"),
        ({**MINI, "pool": "mean"}, "timm"),
        ({"name": "timm:convnext_atto"}, None),
        ({"name": "timm:resnet18"}, "torchvision"),
        ({"name": "timm:vit_tiny_patch16_224"}, "timm"),
        ({"name": "timm:vit_tiny_patch16_224"}, "twoview"),
        pytest.param({"name": "vit-tiny", "patch": 8}, "timm", marks=pytest.mark.long),
        pytest.param({"name": "vit-small", "patch": 8}, "torchvision", marks=pytest.mark.long),
    ],
    ids=str,
)
def test_the_weights_give_the_same_features_in_other_libraries(tmp_path, backbone, keys):
    path = trained(tmp_path, backbone)
    export(path, tmp_path / "out", keys=keys)
    pixels = some_pixels()
    (features,) = by_the_card(tmp_path / "out", pixels)
    assert off(features, expected(path, pixels)) < 1e-5


@pytest.mark.parametrize(
    "backbone", [{"name": "resnet18"}, MINI, {**MINI, "pool": "mean"}, {"name": "timm:convnext_atto"}], ids=str
)
def test_the_graphs_give_the_same_features(tmp_path, backbone):
    path = trained(tmp_path, backbone)
    export(path, tmp_path / "out", formats=["onnx", "pt2"])
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["README.md", "model.onnx", "model.pt2"]
    pixels = some_pixels()
    program, onnx = by_the_card(tmp_path / "out", pixels)
    truth = expected(path, pixels)
    assert off(program, truth) < 1e-5
    assert off(onnx, truth) < 1e-4


def test_a_graph_takes_any_number_of_images(tmp_path):
    import onnxruntime

    path = trained(tmp_path, TINY)
    export(path, tmp_path / "out", formats=["onnx", "pt2"])
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    images = torch.rand(7, 3, 32, 32)
    for count in (1, 2, 7):
        (onnx,) = session.run(["features"], {"images": images[:count].numpy()})
        assert off(onnx, program(images[:count]).detach().numpy()) < 1e-4


def test_images_of_another_shape_are_cropped_as_for_the_probes(tmp_path):
    """Above 64 pixels an image is resized, and its center cut out: by the loader for the probes, by PIL in the card."""
    pixels = np.asarray(Image.fromarray(some_pixels(9)).resize((130, 170), Image.Resampling.BICUBIC))
    file = tmp_path / "images.beton"
    for _ in beton.write(file, 1, samples_from_arrays(pixels[None], [0], "pixels").stored, 1):
        pass
    path = trained(tmp_path, TINY, size=96)
    export(path, tmp_path / "out")
    with Loader(beton.open_beton(file), presets.preset("eval", 96), 1, shuffle=False, threads=1) as loader:
        (view,) = next(iter(loader.epoch(0))).views
        encoder, normalize = network(path)
        with torch.no_grad():
            truth = encoder(normalize(view)).numpy()
    (features,) = by_the_card(tmp_path / "out", pixels)
    assert off(features, truth) < 1e-5


@pytest.mark.parametrize("method", ["cifar10-byol", "cifar10-moco", "cifar10-data2vec"])
def test_the_moving_average_is_exported_if_asked_for(tmp_path, method):
    path = trained(tmp_path, {} if method == "cifar10-data2vec" else TINY, method)
    pixels = some_pixels()
    export(path, tmp_path / "average", momentum=True)
    export(path, tmp_path / "trained")
    (average,), (plain,) = by_the_card(tmp_path / "average", pixels), by_the_card(tmp_path / "trained", pixels)
    assert off(average, expected(path, pixels, average=True)) < 1e-5
    assert np.abs(average - plain).max() > 1e-3
    assert "This is the moving average of a " in (tmp_path / "average" / "README.md").read_text()


def test_a_method_without_a_moving_average_has_none(tmp_path):
    path = trained(tmp_path, TINY)
    with pytest.raises(ValueError, match="--momentum needs a method with a moving average, and simclr has none"):
        export(path, tmp_path / "out", momentum=True)


@pytest.mark.parametrize(
    ("backbone", "keys", "sentence"),
    [
        (TINY, "timm", "--keys must be twoview for resnet-tiny, which timm does not have, got timm"),
        ({**MINI, "pool": "mean"}, "torchvision", "torchvision's takes class tokens"),
        ({"name": "timm:convnext_atto"}, "torchvision", "must be timm or twoview for timm:convnext_atto"),
    ],
)
def test_a_network_that_a_library_does_not_have_is_refused(tmp_path, backbone, keys, sentence):
    path = trained(tmp_path, backbone)
    with pytest.raises(ValueError, match=sentence):
        export(path, tmp_path / "out", keys=keys)
    assert not (tmp_path / "out").exists()


def test_formats_are_checked(tmp_path):
    path = trained(tmp_path, TINY)
    with pytest.raises(ValueError, match="formats must be some of safetensors, pt2, onnx, got pickle"):
        export(path, tmp_path / "out", formats=["pickle"])
    with pytest.raises(ValueError, match="formats must be some of safetensors, pt2, onnx, got none"):
        export(path, tmp_path / "out", formats=[])


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise ImportError("ONNX needs more packages")

    path = trained(tmp_path, TINY)
    monkeypatch.setattr(graphs, "write_onnx", fails)
    with pytest.raises(ImportError, match="ONNX needs more packages"):
        export(path, tmp_path / "out", formats=["safetensors", "onnx"])
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoints"]


def test_an_earlier_export_is_replaced_only_if_asked_for_and_nothing_else_is(tmp_path):
    path, dest = trained(tmp_path, TINY), tmp_path / "out"
    export(path, dest, formats=["pt2"])
    with pytest.raises(FileExistsError, match="to replace it, use --force"):
        export(path, dest)
    export(path, dest, force=True)
    assert sorted(one.name for one in dest.iterdir()) == ["README.md", "model.safetensors"]
    (dest / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"nothing but an earlier export to be replaced, got thesis\.tex"):
        export(path, dest, force=True)
    assert (dest / "thesis.tex").read_text() == "years of work"
    with pytest.raises(FileExistsError, match="must be a folder to be replaced, got a file"):
        export(path, dest / "thesis.tex", force=True)


def test_a_damaged_record_is_named_and_not_skipped(tmp_path):
    path = trained(tmp_path, TINY)
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "run-seed0.json").write_text("{")
    with pytest.raises(ValueError, match=r"every record in .*evidence must be valid, got .*run-seed0\.json"):
        export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    path = trained(tmp_path, TINY)
    assert run(["export", str(path), str(tmp_path / "out"), "--json"]) == 0
    assert [one.rpartition("/")[2] for one in json.loads(capsys.readouterr().out)["files"]] == [
        "model.safetensors",
        "README.md",
    ]


def test_a_folder_is_replaced_whole(tmp_path):
    old = tmp_path / "folder"
    old.mkdir()
    (old / "a").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(old) as scratch:
        (scratch / "b").write_text("new")
        raise RuntimeError
    assert [one.name for one in old.iterdir()] == ["a"]
    with whole_folder(old) as scratch:
        (scratch / "b").write_text("new")
    assert [one.name for one in old.iterdir()] == ["b"] and list(tmp_path.iterdir()) == [old]
