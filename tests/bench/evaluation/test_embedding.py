"""`twoview embed`: the features are the probes', whatever the images are, and an interrupted command continues."""

import json
import os
import signal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import twoview
from tests.support.betons import damaged_beton
from twoview.bench.config.experiment import Place, build_method
from twoview.bench.config.recipe import Probe, parse
from twoview.bench.data import own
from twoview.bench.evaluation import embedding, judging
from twoview.bench.evaluation.probing import Bench
from twoview.cli import run
from twoview.methods import checkpoint
from twoview.methods.normalize import Normalize
from twoview.methods.probes import features

RECIPE = {
    "name": "tiny",
    "source": "a test",
    "dataset": "cifar10",
    "views": "simclr-cifar",
    "size": 16,
    "epochs": 1,
    "batch": 32,
    "method": {"name": "byol", "hidden": 16, "projection": 8},
    "backbone": {"width": 8},
}
COUNT = 23


def saved(path, seed=0):
    """A checkpoint of an untrained encoder, whose moving average has been moved."""
    recipe = RECIPE | {"seed": seed}
    method = build_method(parse(recipe, "here"))
    for parameter in method.averaged.parameters():
        parameter.data.mul_(1.5)
    checkpoint.save(path, {"recipe": recipe, "method": method.state_dict(), "epoch": 1})
    return path


@pytest.fixture
def encoder(tmp_path):
    return saved(tmp_path / "run" / "checkpoints" / "tiny-seed0.pt")


@pytest.fixture
def photos(tmp_path):
    """A folder of images without labels."""
    return pictures(tmp_path / "photos", [f"{number:02}.png" for number in range(COUNT)])


def pictures(folder, names):
    generator = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / name)
    return folder


def matrix(file):
    return np.stack(pd.read_parquet(file).features)


def test_the_features_are_those_that_the_probes_see(encoder, tmp_path):
    """The images at a path, as the test images of a probe, in its batches, give the same bits."""
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(9)]
    pets = str(pictures(tmp_path / "pets", names))
    made = twoview.embed(encoder, pets, tmp_path / "out.parquet")
    subject, _ = judging.trained_encoder(encoder)
    place = Place(tmp_path / "run" / "betons", tmp_path, None)
    bench = Bench(subject, own.dataset_at(pets, pets, place.betons, 16), Probe(), place)
    table = pd.read_parquet(made.path)
    assert np.array_equal(np.stack(table.features), bench.features()[1].x.numpy())
    assert table.path.tolist() == names and table.label.tolist() == ["cat"] * 9 + ["dog"] * 9
    assert (made.images, made.dim, made.left_out) == (18, subject.dim, ())


def test_the_file_says_what_it_holds(encoder, photos, tmp_path):
    made = twoview.embed(encoder, photos, tmp_path / "out.parquet", precision="bf16")
    schema = pq.read_schema(made.path)
    assert schema.names == ["path", "label", "features"] and schema.field("path").type == pa.string()
    assert schema.field("features").type == pa.list_(pa.float32(), made.dim)
    assert pq.read_table(made.path).column("label").null_count == COUNT
    about = json.loads(schema.metadata[b"twoview"])
    subject, recipe = judging.trained_encoder(encoder)
    assert about["encoder"] == "tiny-seed0" and about["hash"] == subject.hash and about["size"] == recipe.size
    assert about["normalize"] == {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}
    assert about["precision"] == "bf16" and about["images"] == str(photos) and about["version"] == twoview.__version__
    assert list(about["data"]) == ["train"]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")], "no hidden file is left"
    fp32 = matrix(twoview.embed(encoder, photos, tmp_path / "fp32.parquet").path)
    assert 0 < np.abs(matrix(made.path) - fp32).max() < 0.05 * np.abs(fp32).max()


def test_several_splits_have_a_column_and_rows_are_written_in_parts(encoder, tmp_path, monkeypatch):
    names = [f"{split}/{number}.png" for split in ("train", "test") for number in range(5)]
    folder = pictures(tmp_path / "pets", names)
    whole = twoview.embed(encoder, folder, tmp_path / "whole.parquet").path
    monkeypatch.setattr(embedding, "ROWS", 2)
    table = pd.read_parquet(twoview.embed(encoder, folder, tmp_path / "out.parquet").path)
    assert table.columns.tolist() == ["path", "split", "label", "features"]
    assert table.path.tolist() == names and table.split.tolist() == ["train"] * 5 + ["test"] * 5
    assert np.array_equal(np.stack(table.features), matrix(whole))


def killed(after, *words):
    """Embed in a process that is killed by SIGKILL in its batch number `after`."""
    if (child := os.fork()) == 0:
        seen, forward = [], Normalize.forward

        def deadly(self, x):
            seen.append(1)
            if len(seen) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return forward(self, x)

        Normalize.forward = deadly
        features.MARK_SECONDS = 0
        twoview.embed(*words, batch=4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture
def normalized(monkeypatch):
    """The numbers of images in the batches that are normalized from now on."""
    batches, forward = [], Normalize.forward

    def counted(self, x):
        batches.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Normalize, "forward", counted)
    return batches


def test_a_killed_command_continues_where_it_stopped(encoder, photos, tmp_path, one_thread, normalized):
    out, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    twoview.embed(encoder, photos, whole, batch=4)
    assert sum(normalized) == COUNT
    killed(4, encoder, photos, out)
    assert not out.exists()
    normalized.clear()
    twoview.embed(encoder, photos, out, batch=4)
    assert sum(normalized) == COUNT - 3 * 4 and pq.read_table(out).equals(pq.read_table(whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "photos", "run", "whole.parquet"]


def test_what_was_done_for_another_encoder_or_other_images_is_not_used(
    encoder, photos, tmp_path, one_thread, normalized
):
    other = saved(tmp_path / "run" / "checkpoints" / "tiny-seed1.pt", seed=1)
    out, whole = tmp_path / "out.parquet", tmp_path / "whole.parquet"
    killed(4, encoder, photos, out)
    twoview.embed(other, photos, out, batch=4)
    assert sum(normalized) == COUNT
    killed(4, encoder, photos, tmp_path / "again.parquet")
    (photos / "00.png").write_bytes((photos / "01.png").read_bytes())
    normalized.clear()
    twoview.embed(encoder, photos, tmp_path / "again.parquet", batch=4)
    assert sum(normalized) == COUNT
    twoview.embed(encoder, photos, whole, batch=4)
    assert np.array_equal(matrix(tmp_path / "again.parquet"), matrix(whole))
    assert not np.array_equal(matrix(out), matrix(whole))


def test_an_interrupt_says_that_work_is_kept_and_the_command_continues(
    encoder, photos, tmp_path, monkeypatch, normalized, capsys
):
    monkeypatch.setattr(features, "MARK_SECONDS", 0)
    words = ["embed", str(encoder), str(photos), "--out", str(tmp_path / "out.parquet"), "--batch", "5"]
    counted = Normalize.forward
    with monkeypatch.context() as patch:

        def interrupted(self, x):
            if len(normalized) == 2:
                signal.raise_signal(signal.SIGINT)
            return counted(self, x)

        patch.setattr(Normalize, "forward", interrupted)
        assert run(words) == 130 and "interrupted; finished work is kept" in capsys.readouterr().err
    normalized.clear()
    assert run(words) == 0 and sum(normalized) == COUNT - 10
    assert f"out.parquet: features of {COUNT} images, 32 numbers each" in capsys.readouterr().out


def test_a_file_is_overwritten_only_with_force(encoder, photos, tmp_path, capsys):
    out = tmp_path / "out.parquet"
    out.write_text("mine")
    words = ["embed", str(encoder), str(photos), "--out", str(out)]
    assert run(words) == 2
    assert f"{out} already exists: to overwrite it, use --force" in capsys.readouterr().err
    assert out.read_text() == "mine" and not (tmp_path / "run" / "betons").exists()
    assert run([*words, "--force"]) == 0 and len(matrix(out)) == COUNT


def test_images_that_cannot_be_read_are_skipped_and_listed(encoder, photos, tmp_path, capsys):
    whole = matrix(twoview.embed(encoder, photos, tmp_path / "whole.parquet").path)
    (photos / "03.png").write_bytes(b"no image")
    words = ["embed", str(encoder), str(photos), "--out", str(tmp_path / "out.parquet")]
    assert run(words) == 2 and "03.png cannot be read as an image" in capsys.readouterr().err
    assert run([*words, "--on-error", "skip"]) == 0
    assert capsys.readouterr().out.startswith("skipped: 03.png\n")
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table.path.tolist() == [f"{number:02}.png" for number in range(COUNT) if number != 3]
    assert np.allclose(np.stack(table.features), np.delete(whole, 3, 0), rtol=0, atol=1e-6 * np.abs(whole).max())
    assert run([*words, "--force", "--json", "--on-error", "skip"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == ["03.png"]


def test_damaged_samples_of_a_beton_are_skipped_too(encoder, photographs, tmp_path):
    path = damaged_beton(photographs, tmp_path / "damaged.beton", {3, 7}, 10).path
    with pytest.raises(ValueError, match="sample 3, field image"):
        twoview.embed(encoder, path, tmp_path / "out.parquet")
    made = twoview.embed(encoder, path, tmp_path / "out.parquet", on_error="skip")
    table = pd.read_parquet(made.path)
    assert made.left_out == ("3", "7") and table.path.tolist() == list("01245689")
    assert table.label.tolist() == [str(100 + int(number)) for number in table.path]


def test_the_moving_average_of_an_encoder(encoder, photos, tmp_path):
    plain = matrix(twoview.embed(encoder, photos, tmp_path / "plain.parquet").path)
    made = twoview.embed(encoder, photos, tmp_path / "momentum.parquet", momentum=True)
    about = json.loads(pq.read_schema(made.path).metadata[b"twoview"])
    assert about["encoder"] == "tiny-seed0-momentum" and not np.allclose(matrix(made.path), plain)


def test_an_encoder_of_another_library_without_a_known_normalization(photos, tmp_path):
    """A ResNet for CIFAR: it gets the mean and the standard deviation of the images."""
    from torchvision.models import resnet18

    module = resnet18()
    module.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    torch.save({key: value for key, value in module.state_dict().items() if "fc" not in key}, tmp_path / "r.pt")
    made = twoview.embed(
        f"checkpoint:{tmp_path / 'r.pt'}", photos, tmp_path / "out.parquet", arch="torchvision:resnet18"
    )
    about = json.loads(pq.read_schema(made.path).metadata[b"twoview"])
    (beton,) = (tmp_path / "betons").glob("photos-*.beton")
    mean, std = own.statistics(twoview.open_beton(beton), 32)
    assert about["normalize"]["mean"] == pytest.approx(mean) and about["normalize"]["std"] == pytest.approx(std)
    assert made.dim == 512 and about["size"] == 32


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["torchvision:resnet18", "x", "--momentum"], "--momentum goes with a checkpoint of `twoview train`, not with"),
        (["x.pt", "x", "--arch", "timm:vit"], "--arch and --layout go with checkpoint:FILE, not with x.pt"),
        (["none.pt", "x"], "none.pt"),
        (["ENCODER", "none"], "there is no file or folder at none"),
        (["ENCODER", ""], "the path of the images must be that of a folder or a file, got ''"),
        (["ENCODER", "x", "--batch", "0"], "--batch must be at least 1, got 0"),
    ],
)
def test_bad_input_is_one_sentence(encoder, tmp_path, monkeypatch, capsys, words, complaint):
    monkeypatch.chdir(tmp_path)
    assert run(["embed", *(word.replace("ENCODER", str(encoder)) for word in words)]) == 2
    assert complaint in capsys.readouterr().err and not (tmp_path / "features.parquet").exists()
