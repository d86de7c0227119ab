"""The file format against stock FFCV, in both directions, and against damage."""

import re
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import beton, datasets
from loaders.beton import JPEG, RAW, Stored, open_beton, write


def write_all(path, samples):
    return list(write(path, len(samples), samples.__getitem__))


def raw(height, width, label=0, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Stored(RAW, height, width, pixels.tobytes(), label)


def test_the_dtypes_are_ffcvs():
    from ffcv import types
    from ffcv.fields import IntField, RGBImageField

    assert types.HeaderType == beton.HEADER
    assert types.FieldDescType == beton.FIELD
    assert types.ALLOC_TABLE_TYPE == beton.ALLOCATION
    theirs = types.get_metadata_type([RGBImageField(), IntField()])
    assert theirs.itemsize == beton.SAMPLE.itemsize
    assert [theirs.fields[name][1] for name in theirs.names] == [beton.SAMPLE.fields[n][1] for n in beton.SAMPLE.names]
    assert types.CURRENT_VERSION == beton.VERSION
    assert types.TYPE_ID_HANDLER[beton.IMAGE_FIELD] is RGBImageField
    assert types.TYPE_ID_HANDLER[beton.INT_FIELD] is IntField


def test_stock_ffcv_reads_our_file(fashion, tmp_path):
    """Through its whole Loader, in a process of its own: the pixels and labels are the ones that were written."""
    program = """
import sys, numpy as np
from ffcv.loader import Loader, OrderOption
from ffcv.fields.decoders import SimpleRGBImageDecoder, IntDecoder
loader = Loader(sys.argv[1], batch_size=50, num_workers=1, order=OrderOption.SEQUENTIAL,
                pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]})
batches = [(images.copy(), labels.copy()) for images, labels in loader]
np.savez(sys.argv[2], images=np.concatenate([b[0] for b in batches]), labels=np.concatenate([b[1] for b in batches]))
"""
    out = tmp_path / "out.npz"
    subprocess.run([sys.executable, "-c", program, str(fashion.path), str(out)], check=True, timeout=200)
    theirs = np.load(out)
    samples = datasets.dataset("fashion-mnist").find(None, "train")
    assert np.array_equal(theirs["labels"][:, 0], samples.labels[:2000])
    assert np.array_equal(theirs["images"], np.stack([samples.image(i) for i in range(2000)]))


def test_we_read_stock_ffcvs_file(tmp_path, noise):
    program = """
import sys, numpy as np
from ffcv.writer import DatasetWriter
from ffcv.fields import RGBImageField, IntField
class Data:
    def __len__(self): return 30
    def __getitem__(self, i):
        return np.full((20 + i, 30, 3), i, np.uint8), 100 + i
writer = DatasetWriter(sys.argv[1], {"image": RGBImageField(write_mode="raw"), "label": IntField()}, num_workers=2)
writer.from_indexed_dataset(Data(), chunksize=4)
"""
    path = tmp_path / "theirs.beton"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=100, capture_output=True)
    file = open_beton(path)
    assert len(file) == 30
    assert file.labels.tolist() == [100 + i for i in range(30)]
    assert file.heights.tolist() == [20 + i for i in range(30)]
    for i in range(30):
        content = file.file[file.pointers[i] : file.pointers[i] + file.sizes[i]]
        assert content.size == (20 + i) * 30 * 3 and (content == i).all()


def test_jpeg_bytes_pass_through(photographs):
    samples = datasets.dataset("photographs").find(None, "train")
    for i in range(len(photographs)):
        start = photographs.pointers[i]
        assert photographs.modes[i] == JPEG
        assert photographs.file[start : start + photographs.sizes[i]].tobytes() == samples.image(i)


def test_the_same_samples_give_the_same_bytes(tmp_path):
    samples = [raw(40 + i, 50, i, i) for i in range(100)]
    for name, threads in (("a", 1), ("b", 4)):
        list(write(tmp_path / name, len(samples), samples.__getitem__, threads))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_sample_crosses_a_page(tmp_path):
    samples = [raw(1000, 1000, i) for i in range(7)]
    write_all(tmp_path / "a.beton", samples)
    file = open_beton(tmp_path / "a.beton")
    assert (file.pointers // beton.PAGE == (file.pointers + file.sizes - 1) // beton.PAGE).all()
    assert (np.diff(file.pointers) >= file.sizes[:-1]).all()


def test_an_error_in_a_sample_reaches_the_caller_and_leaves_nothing(tmp_path):
    def sample(index):
        if index == 37:
            raise ValueError("image 37 is upside down")
        return raw(8, 8)

    with pytest.raises(ValueError, match="image 37"):
        list(write(tmp_path / "a.beton", 100, sample))
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_write(tmp_path):
    path = tmp_path / "a.beton"
    write_all(path, [raw(8, 8)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="65,535"):
        write_all(path, [Stored(RAW, 70_000, 1, bytes(210_000), 0)])
    assert path.read_bytes() == before


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    """A limit on the size of files is the kernel's refusal to write more, as on a full disk."""
    program = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from bench.cli import run
raise SystemExit(run(["convert", "fashion-mnist", "{tmp_path}/a.beton", "--split", "test"]))
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert f"{tmp_path}/a.beton: File too large" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_oversized_sample_is_refused_by_number(tmp_path):
    with pytest.raises(ValueError, match="sample 1 has 12,000,000 bytes"):
        write_all(tmp_path / "a.beton", [raw(8, 8), raw(2000, 2000)])
    with pytest.raises(ValueError, match="no samples"):
        list(write(tmp_path / "a.beton", 0, raw))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_named(tmp_path, share):
    whole = tmp_path / "whole.beton"
    if not whole.exists():
        write_all(whole, [raw(30, 30, i) for i in range(50)])
    content = whole.read_bytes()
    path = tmp_path / "cut.beton"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        open_beton(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_changed_byte_of_the_header_is_an_error_or_harmless(tmp_path, place, value):
    """Whatever the head of the file says, every pointer that comes out of it lies inside the file."""
    whole = tmp_path / "whole.beton"
    if not whole.exists():
        write_all(whole, [raw(30, 30, i) for i in range(20)])
    content = bytearray(whole.read_bytes())
    content[place] = value
    path = tmp_path / "changed.beton"
    path.write_bytes(content)
    try:
        file = open_beton(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert (file.pointers >= 0).all() and (file.pointers + file.sizes <= len(content)).all()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.beton"):
        open_beton(tmp_path / "nowhere.beton")
