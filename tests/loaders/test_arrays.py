"""Betons with NDArray fields against stock FFCV, in both directions, and against damage."""

import subprocess
import sys

import numpy as np
import pytest

from twoview.loaders import arrays
from twoview.loaders.arrays import read_arrays, write_arrays

# FFCV reads our file (1 to 2) with its whole Loader, and writes the same arrays with its own writer (3).
FFCV = """
import sys, numpy as np
from ffcv.fields import NDArrayField
from ffcv.fields.decoders import NDArrayDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter
loader = Loader(sys.argv[1], batch_size=10, num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False,
                pipelines={"x": [NDArrayDecoder()], "z": [NDArrayDecoder()]})
batches = [[field.copy() for field in batch] for batch in loader]
x, z = (np.concatenate(parts) for parts in zip(*batches))
np.savez(sys.argv[2], x=x, z=z)
class Data:
    def __len__(self): return len(x)
    def __getitem__(self, i): return x[i], z[i]
fields = {"x": NDArrayField(x.dtype, x.shape[1:]), "z": NDArrayField(z.dtype, z.shape[1:])}
DatasetWriter(sys.argv[3], fields, num_workers=1).from_indexed_dataset(Data(), chunksize=4)
"""


def made(count=25):
    generator = np.random.default_rng(0)
    return {
        "x": generator.normal(size=(count, 3, 5)).astype(np.float32),
        "z": generator.integers(-1, 2, (count, 7)).astype(np.int8),
    }


def test_stock_ffcv_reads_ours_and_we_read_stock_ffcvs(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "PAGE", 1 << 21)  # bytes, FFCV's smallest
    expected = made()
    ours, read, theirs = (tmp_path / name for name in ("ours.beton", "read.npz", "theirs.beton"))
    write_arrays(ours, expected)
    subprocess.run([sys.executable, "-c", FFCV, *map(str, (ours, read, theirs))], check=True)
    for found in (np.load(read), read_arrays(ours), read_arrays(theirs)):
        for name, array in expected.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def test_many_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "PAGE", 4096)
    expected = made(1000)
    write_arrays(tmp_path / "pages.beton", expected)
    found = read_arrays(tmp_path / "pages.beton")
    assert list(found) == ["x", "z"] and all(np.array_equal(found[name], expected[name]) for name in found)


def test_every_damaged_byte_that_counts_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "PAGE", 4096)
    path = tmp_path / "whole.beton"
    write_arrays(path, {"x": np.arange(12, dtype=np.int32).reshape(4, 3)})
    whole = path.read_bytes()
    region = whole.index(np.arange(12, dtype="<i4").tobytes())
    for place in [0, 2, 8, 16, 30, 60, 320, region, region + 47, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"whole\.beton"):
            read_arrays(path)
    for length in (0, 10, 1000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"whole\.beton"):
            read_arrays(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "every field needs the same number"),
        ({"x": np.ones((2, 1)), "z": np.ones((3, 1))}, "every field needs the same number"),
        ({"x": np.ones((0, 3))}, "at least 1"),
        ({"x": np.ones(3)}, "field x must hold"),
        ({"x": np.array([[None]])}, "field x must hold"),
        ({"x": np.array(3.0)}, "field x must hold"),
        ({"x": np.ones((2,) + 33 * (1,))}, "field x must hold"),
        ({"x": [[1, 2]]}, "field x must be a numpy array, got list"),
        ({"x": 5}, "field x must be a numpy array, got int"),
        ({7: np.ones((2, 2))}, "1 to 16 printable ASCII characters, got 7"),
        ({"a\n": np.ones((2, 2))}, r"1 to 16 printable ASCII characters, got 'a\\n'"),
        ({"a\0": np.ones((2, 2))}, r"1 to 16 printable ASCII characters, got 'a\\x00'"),
        ({"a name of many letters": np.ones((2, 2))}, "1 to 16 printable ASCII"),
        ({"x": np.ones((1, 1 << 21))}, "must have at most 8,388,608 bytes, got 16,777,216"),
    ],
)
def test_what_the_format_cannot_hold(fields, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        write_arrays(tmp_path / "no.beton", fields)
    assert not (tmp_path / "no.beton").exists()


def test_a_field_s_name_that_would_not_print_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "PAGE", 4096)
    path = tmp_path / "a.beton"
    write_arrays(path, {"x": np.ones((2, 3), np.float32)})
    content = bytearray(path.read_bytes())
    start = arrays.HEADER.itemsize + 1
    content[start : start + 5] = b"\x1b[2J\n"
    content[content.index(b"<f4")] = ord("?")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.beton is damaged: field '\\x1b\[2J\\n' must be of numbers"):
        read_arrays(path)
