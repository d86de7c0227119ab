"""`twoview features`: the numbers of a checkpoint's representation, and its plots and images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from twoview.bench.config.experiment import build_method
from twoview.bench.config.recipe import load, parse
from twoview.bench.data import own
from twoview.bench.evaluation import representations
from twoview.cli import run
from twoview.loaders import presets
from twoview.loaders.loader import Loader
from twoview.methods import backbones, checkpoint
from twoview.methods.backbones import Backbone


def saved(folder, recipe, **changes):
    small = {"name": recipe, "dataset": "fashion-mnist", "size": 28, **changes}
    one = parse(load(recipe).model_dump(mode="json") | small, recipe)
    state = {"epoch": 1, "recipe": one.model_dump(mode="json"), "method": build_method(one).state_dict()}
    path = folder / "checkpoints" / f"{recipe}.pt"
    checkpoint.save(path, state)
    return path


def test_several_encoders_are_compared(betons, tmp_path, capsys):
    wide = saved(tmp_path, "features-wrn-strong")
    alex = saved(tmp_path, "features-alexnet-weak", backbone={"name": "alexnet", "width": 8})
    words = ["features", wide, alex, "--out", tmp_path / "out", "--betons", betons, "--images", 60]
    assert run([str(word) for word in [*words, "--perplexity", 10, "--json"]]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out" / "features-wrn-strong-seed0.json").read_text()) == first
    assert first["images"] == 60 and len(first["layers"]) == 7 and len(second["layers"]) == 5
    assert [layer["channels"] for layer in second["layers"]] == [8, 16, 32, 32, 16]
    for layer in first["layers"] + second["layers"]:
        assert 0 < layer["positive"] <= layer["firing_rate"] <= 1
        assert 1 / layer["channels"] <= layer["sparseness"] <= 1
    for name in ("tsne", "firing"):
        svg = (tmp_path / "out" / f"{name}.svg").read_text()
        assert svg.count("features-wrn-strong-seed0") and svg.count("features-alexnet-weak-seed0")
    assert Image.open(tmp_path / "out" / "features-wrn-strong-seed0-filters.png").size == (98 * 16 - 2, 96)
    assert Image.open(tmp_path / "out" / "features-wrn-strong-seed0-strongest.png").size == (98 * 10 - 2, 98 * 8 - 2)


def test_a_vit_is_refused_because_it_has_no_relus(betons, tmp_path, capsys):
    path = saved(tmp_path, "cifar10-mae")
    assert run(["features", str(path), "--out", str(tmp_path / "out"), "--betons", str(betons), "--images", "20"]) == 2
    assert "ViT has no ReLU" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_images_without_labels_are_drawn_without_classes(photographs, betons, tmp_path, capsys):
    """They are the train split's, all of them if there are fewer than asked for; what needs labels is left out."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(20):
        (photos / f"{number}.jpg").write_bytes(photographs.content(number).tobytes())
    recipe = load("features-alexnet-weak").model_dump(mode="json")
    recipe |= {"size": 32, "backbone": {"name": "alexnet", "width": 8}, "data": str(photos)}
    one = own.read(parse(recipe, "here"), tmp_path / "betons")
    plain = tmp_path / "checkpoints" / "plain.pt"
    checkpoint.save(
        plain, {"epoch": 1, "recipe": one.model_dump(mode="json"), "method": build_method(one).state_dict()}
    )
    words = ["features", str(plain), "--out", str(tmp_path / "out"), "--perplexity", "5"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert f"{one.dataset} has no labels: silhouette and kNN need them" in out
    assert out.splitlines()[1].split() == ["features-alexnet-weak-seed0", "-", "-", "-", "-"]
    found = json.loads((tmp_path / "out" / "features-alexnet-weak-seed0.json").read_text())
    assert (found["split"], found["images"], found["representation"], found["tsne"]) == ("train", 20, None, None)
    assert len(found["layers"]) == 5 and all(layer["firing_rate"] > 0 for layer in found["layers"])
    svg = (tmp_path / "out" / "tsne.svg").read_text()
    assert "without labels" in svg and "silhouette" not in svg and svg.count("<use ") >= 20

    labeled = saved(tmp_path, "features-wrn-strong")
    for split in ("train", "test"):
        (tmp_path / "betons" / f"fashion-mnist-{split}.beton").symlink_to(betons / f"fashion-mnist-{split}.beton")
    assert run([words[0], str(labeled), *words[1:], "--images", "60", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["split"] == "test" and first["representation"]["knn"] > 0 and second["representation"] is None


def test_each_filter_is_scaled_separately():
    encoder = backbones.build(Backbone(name="alexnet", width=20))
    rows = representations.filters(encoder)
    assert [len(row) for row in rows] == [16, 4]
    shown, weight = np.concatenate(rows), encoder.body[0].weight.detach()
    assert (shown.min((1, 2, 3)) == 0).all() and (shown.max((1, 2, 3)) == 255).all()
    one = weight[17].permute(1, 2, 0)
    assert np.abs(shown[17] - ((one - one.min()) / (one.max() - one.min()) * 255).numpy()).max() <= 0.5 + 1e-3


def test_the_strongest_images_of_a_channel_have_its_largest_means(fashion):
    indices = np.arange(100, 140)
    mean = torch.rand(40, 9)
    rows = representations.strongest(fashion, indices, 28, mean)
    assert len(rows) == 8 and rows[0].shape == (10, 28, 28, 3)
    with Loader(fashion, presets.preset("eval", 28), 40, indices=indices, shuffle=False) as loader:
        images = next(loader.epoch(0)).views[0].permute(0, 2, 3, 1).numpy()
    for c in range(8):
        order = np.argsort(-mean[:, c].numpy())[:10]
        assert np.array_equal(rows[c], images[order])


@pytest.mark.parametrize("name", ["wrn", "alexnet"])
def test_the_papers_recipes_differ_only_in_views_or_method(name):
    strong, weak, supervised = (
        load(f"wen2021-cifar10-{name}-{kind}").settings() for kind in ("strong", "weak", "supervised")
    )
    assert {key for key in strong if strong[key] != weak[key]} == {"name", "views"}
    assert {key for key in strong if strong[key] != supervised[key]} == {"name", "views", "method"}
    (a, b), (c, d) = (presets.preset(one["views"], 32) for one in (strong, weak))
    assert a == b and c == d and a.scale == c.scale and a.flip == c.flip == 0.5
    assert a.jitter and a.gray and not c.jitter and not c.gray
