"""Images of MAE's reconstructions of hidden patches: what is shown where, and how they reach the page."""

import base64
import re

import numpy as np
import pytest
import torch
from PIL import Image

from twoview.bench import evidence
from twoview.bench.config.experiment import Place, build_method, normalize_for
from twoview.bench.config.recipe import load, parse
from twoview.bench.data import own
from twoview.bench.evaluation import reconstructions
from twoview.loaders import masks
from twoview.methods import checkpoint
from twoview.reports.report import write_report

SMALL = {
    "name": "small", "dataset": "fashion-mnist", "size": 28, "train_images": 64,
    "method": {"name": "mae", "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
}  # fmt: skip


def small(**changes):
    return parse(load("cifar10-mae").model_dump(mode="json") | SMALL | changes, "small")


@pytest.mark.parametrize("normalize", [True, False])
def test_kept_patches_show_the_image_and_hidden_ones_the_prediction(normalize, monkeypatch):
    """With a decoder that returns the truth, and then with one that returns zeros."""
    recipe = small(method={**SMALL["method"], "normalize": normalize})
    method, to_pixels = build_method(recipe).eval(), normalize_for(recipe)
    view = torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8)
    kept = torch.from_numpy(masks.draw(method.masks[0], np.arange(3), 0, 0))
    hidden = reconstructions.MAE.predicted(method, to_pixels(view), kept)[0]
    truth = reconstructions.taken(reconstructions.pixels(to_pixels(view), 4), hidden)
    mean, std = reconstructions.moments(truth)
    right = (truth - mean) / std if normalize else truth
    monkeypatch.setattr(method, "predicted", lambda image, kept: (hidden, right))
    original, seen, made = reconstructions.rows(method, to_pixels, view, kept)
    assert np.array_equal(original, view.permute(0, 2, 3, 1).numpy()) and np.array_equal(made, original)
    monkeypatch.setattr(method, "predicted", lambda image, kept: (hidden, torch.zeros_like(right)))
    *_, made = reconstructions.rows(method, to_pixels, view, kept)
    gray = to_pixels.shift.flatten().round().byte().numpy()
    for b in range(3):
        for patch in range(49):
            y, x = (slice(4 * at, 4 * at + 4) for at in divmod(patch, 7))
            whole = patch in kept[b].tolist()
            assert np.array_equal(seen[b, y, x], original[b, y, x]) if whole else (seen[b, y, x] == gray).all()
            if whole:
                assert np.array_equal(made[b, y, x], original[b, y, x])
            elif normalize:  # the patch's own mean
                assert abs(made[b, y, x].mean((0, 1)).mean() - original[b, y, x].mean()) < 1


@pytest.mark.parametrize("online", [False, True])
def test_a_checkpoints_image_is_next_to_the_evidence_and_on_the_page(online, betons, tmp_path):
    recipe = small(probe={"online": online})
    state = {"epoch": 2, "recipe": recipe.model_dump(mode="json"), "method": build_method(recipe).state_dict()}
    checkpoint.save(tmp_path / "small.pt", state)
    folder = tmp_path / "evidence"
    drawn = reconstructions.write(tmp_path / "small.pt", Place(betons, tmp_path, None), folder)
    assert drawn == folder / "small-seed0.png"
    assert Image.open(drawn).size == (98 * 8 - 2, 98 * 3 - 2) and drawn.stat().st_size < 300_000
    accuracy = evidence.Accuracy(knn_top1=1.0, linear_top1=1.0, train_images=1, test_images=1)
    training = {"epoch_seconds": [1.0], "wait_seconds": [0.0], "views_per_epoch": 1, "losses": [1.0]}
    training |= {"precision": "fp32", "device": "cpu", "loader_threads": 1, "model_threads": 1, "peak_host_mib": 1.0}
    run = evidence.Run(
        name="small-seed0", subject="trained", recipe=state["recipe"], seed=0, accuracy=accuracy, training=training
    )
    evidence.write(run, folder)
    html = write_report(folder, tmp_path / "report").files["index.html"].read_text()
    (address,) = re.findall(r'<img src="([^"]+)"', html)
    assert base64.b64decode(address.removeprefix("data:image/png;base64,")) == drawn.read_bytes()


def test_images_without_labels_are_those_of_the_train_split_also_if_they_are_few(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.new("RGB", (28, 28), (50 * number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    place = Place(tmp_path / "betons", tmp_path, None)
    recipe = own.read(small(data=str(tmp_path / "photos"), probe={}), place.betons)
    state = {"epoch": 2, "recipe": recipe.model_dump(mode="json"), "method": build_method(recipe).state_dict()}
    checkpoint.save(tmp_path / "small.pt", state)
    drawn = np.asarray(Image.open(reconstructions.write(tmp_path / "small.pt", place, tmp_path / "evidence")))
    assert drawn.shape == (98 * 3 - 2, 98 * 5 - 2, 3)
    assert [int(drawn[48, 98 * number + 48, 0]) for number in range(5)] == [0, 50, 100, 150, 200]


def test_other_methods_have_no_image(tmp_path):
    recipe = load("cifar10-simclr")
    checkpoint.save(tmp_path / "a.pt", {"epoch": 2, "recipe": recipe.model_dump(mode="json"), "method": {}})
    assert reconstructions.write(tmp_path / "a.pt", Place(tmp_path, tmp_path, None), tmp_path) is None
    assert not list(tmp_path.glob("*.png"))
