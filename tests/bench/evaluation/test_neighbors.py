"""`twoview neighbors`: exact neighbors by cosine, from a folder of images without labels to a page."""

import io
import json
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from tests.support.betons import damaged_beton
from twoview.bench.config.experiment import build_method
from twoview.bench.config.recipe import parse
from twoview.bench.evaluation import neighbors
from twoview.bench.evaluation.neighbors import search, thumbnail
from twoview.cli import run
from twoview.loaders.samplers import spread
from twoview.methods import checkpoint

CPU = torch.device("cpu")
TINY = """
source = "a test"
data = "photos"
views = "simclr-cifar"
size = 16
epochs = 1
batch = 8
precision = "fp32"
[method]
name = "simclr"
[backbone]
width = 8
"""


def written(path, x, labels=None):
    """A file as `twoview embed` writes it."""
    about = {"encoder": "an encoder", "images": "pets/"}
    columns = [("path", pa.string()), ("label", pa.string()), ("features", pa.list_(pa.float32(), x.shape[1]))]
    names = [f"{number}.png" for number in range(len(x))]
    features = pa.FixedSizeListArray.from_arrays(x.reshape(-1), x.shape[1])
    label = pa.array(labels or [None] * len(x), pa.string())
    table = pa.table([names, label, features], pa.schema(columns, {"twoview": json.dumps(about)}))
    pq.write_table(table, path, row_group_size=23)
    return path


@pytest.mark.parametrize("rows", [7, 8192])
def test_the_neighbors_are_scikit_learns(tmp_path, monkeypatch, rows):
    """However many rows are read at a time, also if they are fewer than the neighbors."""
    monkeypatch.setattr(neighbors, "ROWS", rows)
    x = np.random.default_rng(0).normal(size=(100, 12)).astype(np.float32) * np.logspace(-3, 3, 100)[:, None]
    found = search(written(tmp_path / "f.parquet", x.astype(np.float32)), 15, (), 9, CPU)
    distance, row = NearestNeighbors(metric="cosine", algorithm="brute").fit(x).kneighbors(n_neighbors=9)
    assert found.query.tolist() == spread(100, 15).tolist() and found.row.dtype == np.int64
    assert np.array_equal(found.row, row[found.query])
    assert np.allclose(found.cosine, 1 - distance[found.query], atol=1e-6)
    assert (found.encoder, found.images, found.same_class) == ("an encoder", "pets/", None)


def test_an_image_is_not_its_own_neighbor_even_among_equal_images(tmp_path):
    x = np.tile(np.random.default_rng(0).normal(size=(1, 5)).astype(np.float32), (10, 1))
    found = search(written(tmp_path / "f.parquet", x), 10, (), 3, CPU)
    for query, rows in zip(found.query, found.row, strict=True):
        assert rows.tolist() == [row for row in range(4) if row != query][:3]
    everything = search(written(tmp_path / "f.parquet", x), 10, (), 9, CPU)
    assert all(set(rows) == {*range(10)} - {query} for query, rows in zip(found.query, everything.row, strict=True))


def test_the_share_of_the_querys_class_counts_images_with_labels(tmp_path):
    x = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1], [0.2, 1]], np.float32)
    found = search(written(tmp_path / "f.parquet", x, ["a", "a", None, "b", "b", "a"]), 6, (), 2, CPU)
    # Pairs with labels: 0-1 same; 1-0 same; 2 has none; 3-4 same, 3-5 not; 4-5 not, 4-3 same; 5-4 and 5-3 not.
    assert found.same_class == pytest.approx(100 * 4 / 8)


@given(st.integers(1, 1000), st.integers(1, 50))
def test_queries_are_spread_evenly_from_the_first_image_to_the_last(count, queries):
    rows = spread(count, queries)
    assert len(rows) == min(count, queries) and rows[0] == 0 and (len(rows) == 1 or rows[-1] == count - 1)
    steps = np.diff(rows)
    assert (steps > 0).all() and (len(rows) < 3 or np.ptp(steps) <= 1)


def test_queries_may_be_named_by_their_paths(tmp_path):
    file = written(tmp_path / "f.parquet", np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    assert search(file, 3, ("pets/7.png", "3.png", "3.png"), 2, CPU).query.tolist() == [3, 7]
    with pytest.raises(ValueError, match=r"^query must be the path of an image in pets/, such as 0\.png, got nope$"):
        search(file, 3, ("nope",), 2, CPU)
    for k in (0, 20):
        with pytest.raises(ValueError, match=f"k must be from 1 to 19, the other images at pets/, got {k}"):
            search(file, 3, (), k, CPU)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(1000, 500, (128, 256)), (4, 8, (256, 128)), (1, 5000, (256, 1))]
)
def test_a_thumbnail_has_one_longer_side(height, width, size):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2 + 1] = 250
    small = Image.open(io.BytesIO(thumbnail(pixels)))
    assert small.format == "JPEG" and small.size == size and np.asarray(small)[0].min() > 230


def test_from_a_folder_of_photographs_to_a_page_in_three_commands(photographs, tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    for number in range(24):
        (tmp_path / "photos" / f"{number:02}.jpg").write_bytes(photographs.content(number).tobytes())
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    checkpoint = "run/checkpoints/tiny-seed0.pt"
    assert run(["train", "tiny.toml", "--out", "run"]) == 0
    assert run(["embed", checkpoint, "photos", "--out", "page/features.parquet"]) == 0
    before = (tmp_path / "page" / "features.parquet").stat().st_mtime_ns
    capsys.readouterr()
    words = ["neighbors", checkpoint, "photos", "--out", "page", "--queries", "5", "--k", "3"]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("5 of the 24 images at photos are shown, each with the 3 others that are most similar to it")
    assert "They have no labels." in out and "convert" not in err, "the beton of the training is used"
    assert (tmp_path / "page" / "features.parquet").stat().st_mtime_ns == before, "and so are the features"
    result = json.loads((tmp_path / "page" / "neighbors.json").read_text())
    assert [query["path"] for query in result["queries"]] == ["00.jpg", "06.jpg", "12.jpg", "17.jpg", "23.jpg"]
    for query in result["queries"]:
        cosines = [one["cosine"] for one in query["neighbors"]]
        assert cosines == sorted(cosines, reverse=True) and query["path"] not in str(query["neighbors"])
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<img ") == 5 * 4 == page.count('src="data:image/jpeg;base64,')

    assert run([*words, "--query", "photos/07.jpg", "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert query["path"] == "07.jpg"
    (tmp_path / "photos" / "24.jpg").write_bytes((tmp_path / "photos" / "00.jpg").read_bytes())
    assert run(words) == 2
    assert (
        "features.parquet must hold the features of photos by tiny-seed0 as they are now, got those of"
        in capsys.readouterr().err
    )
    assert run([*words[:-6], "--out", "new", "--queries", "1", "--k", "1", "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert query["neighbors"][0]["path"] == "24.jpg" and query["neighbors"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    (tmp_path / "new" / "features.parquet").write_text("no Parquet")
    assert run([*words[:-6], "--out", "new"]) == 2
    assert "new/features.parquet cannot be read as Parquet" in capsys.readouterr().err


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """A checkpoint in the current folder."""
    monkeypatch.chdir(tmp_path)
    recipe = {"name": "tiny", **tomllib.loads(TINY)}
    del recipe["data"]
    recipe |= {"dataset": "cifar10"}
    method = build_method(parse(recipe, "here")).state_dict()
    checkpoint.save(tmp_path / "run" / "checkpoints" / "tiny.pt", {"recipe": recipe, "method": method, "epoch": 1})
    return "run/checkpoints/tiny.pt"


OTHERS = "features.parquet must hold the features of {} by tiny-seed0 as they are now, got those of {} by tiny-seed0"


def test_features_without_the_damaged_images_are_not_those_of_all(untrained, photographs, tmp_path, capsys):
    damaged_beton(photographs, tmp_path / "damaged.beton", {3}, 20)
    words = ["neighbors", untrained, "damaged.beton", "--out", "page", "--queries", "2", "--k", "2"]
    assert run([*words, "--on-error", "skip"]) == 0
    capsys.readouterr()
    assert run(words) == 2
    assert OTHERS.format("damaged.beton", "damaged.beton") in capsys.readouterr().err
    assert run([*words, "--on-error", "skip"]) == 0


@pytest.mark.parametrize(("before", "after"), [("a/4.jpg", "a/5.jpg"), ("b", "c")])
def test_features_with_earlier_names_of_images_or_classes_are_not_used(
    before, after, untrained, photographs, tmp_path, capsys
):
    for number, name in enumerate(("a/1", "a/2", "a/3", "a/4", "b/1", "b/2")):
        path = tmp_path / "pets" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photographs.content(number).tobytes())
    words = ["neighbors", untrained, "pets", "--out", "page", "--queries", "2", "--k", "2"]
    assert run(words) == 0
    capsys.readouterr()
    (tmp_path / "pets" / before).rename(tmp_path / "pets" / after)
    assert run(words) == 2
    assert OTHERS.format("pets", "pets") in capsys.readouterr().err
