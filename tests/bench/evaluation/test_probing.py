"""Every probe as a user starts it: on Fashion-MNIST, and on miniatures of the other datasets."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.miniatures import MINIATURES
from twoview.bench import evidence
from twoview.bench.config.experiment import build_method
from twoview.bench.config.recipe import parse
from twoview.bench.evaluation import judging, probing
from twoview.bench.evaluation.transfer import SEVEN
from twoview.cli import run
from twoview.methods import checkpoint

RECIPE = {
    "name": "tiny",
    "source": "a test",
    "dataset": "fashion-mnist",
    "views": "simclr-gray",
    "size": 16,
    "epochs": 1,
    "batch": 32,
    "method": {"name": "simclr", "hidden": 16, "projection": 8},
    "backbone": {"width": 8},
    "probe": {"train_images": 300, "test_images": 200, "k": 20},
}
ALL = ("knn", "knn-10", "linear", "sgd-grid", "low-shot", "end-to-end", "fine-tune")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A checkpoint of an untrained encoder."""
    path = tmp_path_factory.mktemp("encoder") / "checkpoints" / "tiny-seed0.pt"
    path.parent.mkdir()
    method = build_method(parse(RECIPE, "here"))
    checkpoint.save(path, {"recipe": RECIPE, "method": method.state_dict(), "epoch": 1})
    return path


@pytest.fixture
def quick(monkeypatch):
    """A grid of two heads and few epochs; the tests of the features cover its results."""
    grid, few = probing.sgd_grid, {"rates": (0.1,), "weight_decays": (0, 1e-3), "epochs": 2}
    monkeypatch.setattr(probing, "sgd_grid", lambda *features, seed: grid(*features, seed=seed, **few))


def probe(*words):
    """Return the exit code, the printed JSON, and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["probe", *map(str, words), "--json"])
    return code, json.loads(out.getvalue()) if code == 0 else None, " ".join(err.getvalue().split())


def test_every_probe_on_fashion_mnist(encoder, betons, tmp_path, quick):
    few = tmp_path / "few.txt"
    few.write_text("\n".join(map(str, range(30))))
    words = [encoder, "--betons", betons, "--out", tmp_path, "--dataset", "fashion-mnist", "--probes", ",".join(ALL)]
    words += ["--train-images", "300", "--test-images", "200", "--protocol", "tan2024", "--epochs", "4", "--batch", 50]
    words += ["--shots", "10%", "2", "--lists", few, "--features", tmp_path / "features"]
    code, result, err = probe(*words)
    assert code == 2 and "few.txt lists samples that are not among the training samples" in err
    used = torch.tensor(probing.chosen(evidence_labels(betons), 0, 300))
    few.write_text("\n".join(map(str, used[:40].tolist())))

    code, result, err = probe(*words)
    assert code == 0, err
    row = result["datasets"]["fashion-mnist"]
    found = row["probes"]
    assert set(found) == {
        "knn", "knn-10", "linear", "sgd-grid",
        "low-shot-10%", "low-shot-2", "low-shot-few", "end-to-end-tan2024", "fine-tune",
    }  # fmt: skip
    for label, one in found.items():
        low, high = one["interval"]
        assert (20 < one["top1"] < one["top5"] or label == "fine-tune") and low < one["top1"] < high, label
        assert len(one["per_class"]) == 10 and one["test_images"] == 200 and one["seconds"] > 0
        assert one["peak_host_mib"] > 100 and one["peak_device_mib"] is None
    assert found["knn"]["budget"]["hours"] == pytest.approx(2 / 3) and found["sgd-grid"]["budget"] is None
    assert found["low-shot-10%"]["train_images"] == 30 and found["low-shot-2"]["train_images"] == 20
    assert found["low-shot-2"]["spread"] > 0 and found["low-shot-few"]["spread"] is None
    assert found["sgd-grid"]["settings"]["lr"] == 0.1 and len(found["sgd-grid"]["settings"]["tried"]) == 2
    ends = found["end-to-end-tan2024"]
    assert ends["settings"]["optim"]["lr"] == pytest.approx(0.3 * 50 / 64) and "40,000" in ends["settings"]["missing"]
    assert row["gap_to_end_to_end"]["linear"] == pytest.approx(ends["top1"] - found["linear"]["top1"])

    records, complaints = evidence.read_folder(tmp_path / "evidence")
    assert not complaints and len(records) == 9 and all(isinstance(one, evidence.Probing) for one in records)
    before = {file: file.read_bytes() for file in (tmp_path / "evidence").iterdir()}
    assert probe(*words)[1] == result, "finished probes are kept"
    assert before == {file: file.read_bytes() for file in (tmp_path / "evidence").iterdir()}
    code, _, err = probe(*words, "--seed", "1")
    assert code == 2 and "seed must be 0 as in " in err and ", got 1: use another --evidence-dir" in err
    knn = [{",".join(ALL): "knn", "tan2024": "lee2025"}.get(word, word) for word in words]
    assert probe(*knn)[0] == 0, "kNN has no protocol"
    few.write_text("\n".join(map(str, used[:50].tolist())))
    code, _, err = probe(*words)
    assert code == 2 and "list must be " in err and "low-shot-few.json, got " in err


def evidence_labels(folder):
    from twoview.loaders import beton

    return beton.open_beton(folder / "fashion-mnist-train.beton").labels


def test_end_to_end_training_continues_where_it_stopped(encoder, betons, tmp_path, monkeypatch):
    subject, recipe = judging.trained_encoder(encoder)
    place = probing.Place(betons, tmp_path, None)
    options = probing.Options(protocol="tan2024", epochs=3, batch=50)

    def found(place):
        bench = probing.Bench(subject, probing.datasets.dataset("fashion-mnist"), recipe.probe, place, options)
        return next(iter(probing.probe(bench, "end-to-end")))[1]

    whole = found(place)
    stopped = probing.Place(betons, tmp_path / "stopped", None)
    saves = []

    def save(path, state, *rest):
        keep(path, state, *rest)
        saves.append(state["epoch"])
        if len(saves) == 1:
            raise KeyboardInterrupt

    keep = checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            found(stopped)
    assert saves == [1]
    again = found(stopped)
    assert again.top1 == whole.top1 and again.per_class == whole.per_class
    options = probing.Options(protocol="tan2024", epochs=4, batch=50)
    with pytest.raises(
        ValueError, match=r"^epochs must be 3 as in .*\.pt, got 4: remove that file, or use another --out$"
    ):
        found(stopped)
    options = probing.Options(protocol="tan2024", epochs=3, batch=50)
    recipe = recipe.model_copy(update={"probe": recipe.probe.model_copy(update={"train_images": 200})})
    subject = replace(subject, size=8)
    with pytest.raises(ValueError, match=r"^train_images must be \d+ as in .*\.pt, got 200; size must be \d+, got 8: "):
        found(stopped)


def test_transfer_names_missing_datasets_and_continues_once_they_exist(encoder, tmp_path, monkeypatch):
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setattr(probing.datasets.dataset("cifar100").__class__, "small", False)
    for name in ("clevr-count", "kitti-distance"):
        MINIATURES[name](root, monkeypatch)
    words = (encoder, "--transfer", "--data-root", root, "--out", tmp_path / "out", "--probes", "knn")
    code, result, err = probe(*words)
    assert code == 0, err
    rows = result["datasets"]
    assert tuple(rows) == SEVEN
    there = [name for name in SEVEN if not rows[name]["missing"]]
    assert there == ["clevr-count", "clevr-distance", "kitti-distance"]
    for name in there:
        assert rows[name]["probes"]["knn"]["test_images"] == (3 if name == "kitti-distance" else 4)
    assert rows["kitti-distance"]["probes"]["knn"]["top5"] is None, "it has four classes"
    for name in set(SEVEN) - set(there):
        assert rows[name]["probes"] == {} and name.split("-")[0] in rows[name]["get"]
    MINIATURES["inat18"](root, monkeypatch)
    code, again, _ = probe(*words)
    assert again["datasets"]["clevr-count"] == rows["clevr-count"] and not again["datasets"]["inat18"]["missing"]
    text = io.StringIO()
    with redirect_stdout(text):
        assert run(["probe", *map(str, words)]) == 0
    lines = text.getvalue().splitlines()
    assert any(line.strip() == "places205" for line in lines), "its cells are empty"
    assert any(line.startswith("places205 is missing: ") and "curl" in line for line in lines)


def test_two_results_with_the_same_name_are_refused():
    options = probing.Options(shots=("1%", "5"), lists=(Path("a/few.txt"), Path("b/few.txt")))
    with pytest.raises(ValueError, match="two results named few"):
        probing.labels("low-shot", options)


def test_a_wrong_option_is_named(encoder):
    for words, complaint in (
        ((), "either a checkpoint or --encoder, got neither"),
        ((encoder, "--probes", "knm"), "unknown probe 'knm': did you mean knn"),
        (("--encoder", "timm:resnet18"), "--encoder needs a --dataset, --data or --transfer"),
        ((encoder, "--baselines", "--probes", "knn"), "--baselines works only for"),
        ((encoder, "--dataset", "cifar1"), "cifar"),
    ):
        code, _, err = probe(*words)
        assert code == 2 and complaint in err, err


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MINIATURES)
def test_every_probe_on_a_miniature_of_every_dataset(encoder, name, tmp_path, monkeypatch, quick):
    MINIATURES[name](tmp_path, monkeypatch)
    words = [encoder, "--dataset", name, "--data-root", tmp_path, "--out", tmp_path / "out", "--probes", *ALL]
    words += ["--epochs", "1", "--batch", "4", "--shots", "50%", "1", "--splits", "2"]
    words += ["--protocol", "vissl" if name in SEVEN else "solo-learn"]
    code, result, err = probe(*words)
    assert code == 0, err
    row = result["datasets"][name]
    assert row["missing"] is None and len(row["probes"]) == 8
    for one in row["probes"].values():
        assert 0 <= one["interval"][0] <= one["top1"] <= one["interval"][1] <= 100
