"""The file format against stock FFCV, in both directions, and against damage."""

import re
import resource
import subprocess
import sys
from threading import Event, Thread
from time import sleep

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from twoview.loaders import beton, datasets
from twoview.loaders.beton import JPEG, RAW, Stored, open_beton, write
from twoview.loaders.decode import Decoder, output_layout, view_table
from twoview.loaders.views import View


def write_all(path, samples):
    return list(write(path, len(samples), samples.__getitem__))


@pytest.fixture
def small_pages(monkeypatch):
    """Make files of half a megabyte instead of sixteen, for hundreds of trials."""
    monkeypatch.setattr(beton, "PAGE", 1 << 18)


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


# Reads our file (1 to 2) through its whole Loader, and writes one by its own writer (3), others into a folder (4).
FFCV = """
import sys, numpy as np
from ffcv.loader import Loader, OrderOption
from ffcv.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.writer import DatasetWriter
loader = Loader(sys.argv[1], batch_size=50, num_workers=1, order=OrderOption.SEQUENTIAL,
                pipelines={"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]})
batches = [(images.copy(), labels.copy()) for images, labels in loader]
np.savez(sys.argv[2], images=np.concatenate([b[0] for b in batches]), labels=np.concatenate([b[1] for b in batches]))
class Data:
    def __len__(self): return 30
    def __getitem__(self, i):
        return np.full((20 + i, 30, 3), i, np.uint8), 100 + i
writer = DatasetWriter(sys.argv[3], {"image": RGBImageField(write_mode="raw"), "label": IntField()}, num_workers=2)
writer.from_indexed_dataset(Data(), chunksize=4)
class Samples:
    def __init__(self, names): self.names = names
    def __len__(self): return 7
    def __getitem__(self, i):
        of = {"image": np.full((20 + i, 30, 3), i, np.uint8), "label": 100 + i, "index": 50 + i, "weight": i / 4,
              "text": np.frombuffer(b"x" * (40 * i + 1), np.uint8), "feature": np.full((3, 5), i, np.float32),
              "blank": np.zeros(i % 2, np.uint8), "about": {"i": int(i)}}
        return tuple(of[name.rstrip("2")] for name in self.names)
kinds = {"image": RGBImageField, "label": IntField, "index": IntField, "weight": FloatField, "text": BytesField,
         "blank": BytesField, "feature": lambda: NDArrayField(np.dtype("float32"), (3, 5)), "about": JSONField}
for name in sys.argv[5:]:
    fields = {field: kinds[field.rstrip("2")]() for field in name.split("-")}
    writer = DatasetWriter(f"{sys.argv[4]}/{name}.beton", fields, page_size=1 << 21, num_workers=1)
    writer.from_indexed_dataset(Samples(list(fields)))
"""
LAYOUTS = (
    "image-label-index",
    "label-image",
    "image",
    "image-index",
    "weight-text-label-feature-index-image-about",
    "image-image2-label",
    "blank-image-blank2-label",
)
REFUSED = {
    "label-weight": r"must hold an RGB image field, got label \(integer\), weight \(float\)",
    "image2-image22": "must hold one RGB image field, or one named image, got image2, image22",
    "image-index-index2": "must hold one integer field, or one named label, got index, index2",
}


@pytest.fixture(scope="module")
def ffcvs(fashion, tmp_path_factory):
    """Return a folder with stock FFCV's results, from another process: what it read from our file and what it wrote."""
    folder = tmp_path_factory.mktemp("ffcv")
    files = fashion.path, folder / "read.npz", folder / "theirs.beton", folder
    subprocess.run([sys.executable, "-c", FFCV, *map(str, files), *LAYOUTS, *REFUSED], check=True)
    return folder


def test_stock_ffcv_reads_our_file(ffcvs):
    """The pixels and labels equal the written ones."""
    theirs = np.load(ffcvs / "read.npz")
    samples = datasets.dataset("fashion-mnist").find(None, "train")
    assert np.array_equal(theirs["labels"][:, 0], samples.labels[:2000])
    assert np.array_equal(theirs["images"], np.stack([samples.image(i) for i in range(2000)]))


def test_we_read_stock_ffcvs_file(ffcvs):
    file = open_beton(ffcvs / "theirs.beton")
    assert len(file) == 30
    assert file.labels.tolist() == [100 + i for i in range(30)]
    assert file.heights.tolist() == [20 + i for i in range(30)]
    for i in range(30):
        content = file.file[file.pointers[i] : file.pointers[i] + file.sizes[i]]
        assert content.size == (20 + i) * 30 * 3 and (content == i).all()


KINDS = {"image": "RGB image", "label": "integer", "index": "integer", "weight": "float", "text": "bytes"}
KINDS |= {"blank": "bytes", "blank2": "bytes", "feature": "array", "about": "JSON", "image2": "RGB image"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fields_are_read_by_name_whatever_stands_beside_them(ffcvs, layout):
    file = open_beton(ffcvs / f"{layout}.beton")
    names = layout.split("-")
    assert file.fields == tuple((name, KINDS[name]) for name in names)
    first = 100 if "label" in names else 50
    assert file.labels.tolist() == ([first + i for i in range(7)] if first == 100 or "index" in names else [-1] * 7)
    for i in range(7):
        content = file.file[file.pointers[i] : file.pointers[i] + file.sizes[i]]
        assert (file.heights[i], file.widths[i]) == (20 + i, 30)
        assert content.size == (20 + i) * 30 * 3 and (content == i).all()
    assert file.index and not file.checksums.size and not file.about


@pytest.mark.parametrize("layout", REFUSED)
def test_fields_without_an_image_or_with_too_many_are_refused_by_name(ffcvs, layout):
    with pytest.raises(ValueError, match=REFUSED[layout]):
        open_beton(ffcvs / f"{layout}.beton")


def test_a_field_of_no_type_of_ffcvs_is_named(tmp_path):
    path = tmp_path / "a.beton"
    write_all(path, [raw(8, 8)])
    content = bytearray(path.read_bytes())
    content[beton.HEADER.itemsize + beton.FIELD.itemsize] = 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.beton: field 'label' is of type 255; FFCV's types are 0 to 6"):
        open_beton(path)


def test_what_a_file_was_made_of_stands_in_it_and_changes_no_sample(tmp_path):
    samples, origin = [raw(8, 8, i, i) for i in range(5)], {"dataset": "caf\u00e9", "left_out": 2}
    for name, about in (("plain", None), ("told", lambda: origin)):
        list(write(tmp_path / name, 5, samples.__getitem__, about=about))
    plain, told = open_beton(tmp_path / "plain"), open_beton(tmp_path / "told")
    assert told.about == origin and plain.about == {}
    assert told.index == plain.index and np.array_equal(told.checksums, plain.checksums)
    from ffcv.reader import Reader

    theirs = Reader(str(told.path))
    assert theirs.alloc_table["ptr"].tolist() == told.pointers.tolist()
    assert theirs.metadata["f1"].tolist() == told.labels.tolist()


def test_no_byte_of_what_a_file_was_made_of_changes_unseen(tmp_path, small_pages):
    path = tmp_path / "a.beton"
    list(write(path, 3, lambda i: raw(8, 8, i, i), about=lambda: {"dataset": "cats", "split": "train"}))
    content = path.read_bytes()
    start = content.index(b'{"dataset"')
    for at in range(start, len(content) - 3 * beton.ALLOCATION.itemsize):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match="what it was made of is not the one that was written"):
            open_beton(path)


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
    """With a limit on file sizes, the kernel refuses to write more, as on a full disk."""
    program = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from twoview.cli import run
raise SystemExit(run(["convert", "fashion-mnist", "{tmp_path}/a.beton", "--split", "test"]))
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path}/a.beton: File too large" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_oversized_sample_is_refused_by_number(tmp_path):
    with pytest.raises(ValueError, match="sample 1 has 12,000,000 bytes"):
        write_all(tmp_path / "a.beton", [raw(8, 8), raw(2000, 2000)])
    with pytest.raises(ValueError, match="no samples"):
        list(write(tmp_path / "a.beton", 0, raw))


@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_named(tmp_path, small_pages, share):
    whole = tmp_path / "whole.beton"
    if not whole.exists():
        write_all(whole, [raw(30, 30, i) for i in range(50)])
    content = whole.read_bytes()
    path = tmp_path / "cut.beton"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        open_beton(path)


@settings(max_examples=200)
@given(place=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_changed_byte_of_the_header_is_an_error_or_harmless(tmp_path, small_pages, place, value):
    """Whatever the start of the file contains, every pointer read from it lies inside the file."""
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


def sealed(path, samples):
    write_all(path, samples)
    file = open_beton(path)
    return file, [file.file[p : p + n].tobytes() for p, n in zip(file.pointers, file.sizes, strict=True)]


def test_the_checksums_are_xxh64_and_lie_where_ffcv_does_not_look(tmp_path):
    from ffcv.reader import Reader

    file, contents = sealed(tmp_path / "a.beton", [raw(30, 30, i, i) for i in range(40)])
    assert file.checksums.tolist() == [xxhash.xxh64(content).intdigest() for content in contents]
    theirs = Reader(str(file.path))
    assert theirs.alloc_table["ptr"].tolist() == file.pointers.tolist()
    assert theirs.metadata["f1"].tolist() == file.labels.tolist()


def test_a_sample_that_cannot_be_read_is_left_out_where_that_is_asked_for(tmp_path):
    def sample(index):
        if index % 10 == 3:
            raise ValueError(f"image {index} is upside down")
        return raw(8, 8, index, index)

    skipped = {}
    path = tmp_path / "a.beton"
    assert list(write(path, 40, sample, skipped=skipped)) == list(range(1, 41))
    assert skipped == {index: f"image {index} is upside down" for index in (3, 13, 23, 33)}
    file = open_beton(path)
    assert file.labels.tolist() == [i for i in range(40) if i % 10 != 3]
    assert file.file[file.pointers[3] : file.pointers[3] + 192].tobytes() == raw(8, 8, 4, 4).content
    with pytest.raises(ValueError, match="no samples"):
        list(write(path, 1, lambda index: sample(3), skipped={}))
    assert len(open_beton(path)) == 36, "the old file is kept"


class Mutations:
    """A small file of JPEGs and raw pixels, and a check that a damaged copy of it is detected."""

    def __init__(self, folder, photographs):
        jpegs = [photographs.file[photographs.pointers[i] :][: photographs.sizes[i]].tobytes() for i in range(4)]
        shapes = [(int(photographs.heights[i]), int(photographs.widths[i])) for i in range(4)]
        samples = [Stored(JPEG, *shape, jpeg, i) for i, (shape, jpeg) in enumerate(zip(shapes, jpegs, strict=True))]
        samples += [raw(40, 30, i, i) for i in range(12)]
        self.whole, self.intact = sealed(folder / "whole.beton", samples)
        self.content = self.whole.path.read_bytes()
        self.path = folder / "damaged.beton"
        self.places = list(
            zip(self.whole.pointers.tolist(), (self.whole.pointers + self.whole.sizes).tolist(), strict=True)
        )
        status, self.pixels = self.render(self.whole)
        assert not status.any()

    def render(self, file):
        out, offsets = np.zeros((16, 24, 24, 3), np.uint8), output_layout((View(24),), 16)[0]
        with Decoder() as decoder:
            table = view_table((View(24),))
            status = decoder.render(file.layout, np.arange(16), table, 0, 0, out.reshape(-1), offsets, 0)
        return status, out

    def check(self, content: bytes) -> str:
        """Return "refused" or "read". Fail if the content that is read differs from what was written."""
        self.path.write_bytes(content)
        try:
            file = open_beton(self.path)
        except ValueError as error:
            assert str(self.path) in str(error)
            return "refused"
        assert file.labels.tolist() == self.whole.labels.tolist() and file.checksums.size == 16
        status, pixels = self.render(file)
        changed = [content[start:end] != intact for (start, end), intact in zip(self.places, self.intact, strict=True)]
        assert (status != 0).tolist() == changed
        assert np.array_equal(pixels[status == 0], self.pixels[status == 0])
        return "read"


def test_a_damaged_file_is_refused_or_its_intact_samples_are_the_written_ones(tmp_path, photographs, small_pages):
    """Changed bytes, overwritten and reversed ranges, and truncation, in every part of the file."""
    mutations = Mutations(tmp_path, photographs)
    assert mutations.check(mutations.content) == "read"
    size = len(mutations.content)
    metadata_end = beton.HEADER.itemsize + 2 * beton.FIELD.itemsize + 16 * beton.SAMPLE.itemsize
    index = [(0, beton.HEADER.itemsize), (beton.HEADER.itemsize, metadata_end)]
    index.append((size - 16 * (beton.ALLOCATION.itemsize + 8), size))
    trials, rng = 1000, np.random.default_rng(0)
    outcomes = []
    for trial in range(trials):
        part = trial % 4
        start, end = index[part] if part < 3 else mutations.places[rng.integers(16)]
        at, stop = np.sort(rng.integers(start, end, 2))
        content = bytearray(mutations.content)
        kind = rng.integers(4)
        if kind == 0:
            content[at] ^= int(rng.integers(1, 256))
        elif kind == 1:
            content[at:stop] = rng.bytes(stop - at)
        elif kind == 2:
            content[at:stop] = content[at:stop][::-1]
        else:
            del content[at:]
        outcomes.append(mutations.check(bytes(content)))
    assert outcomes.count("read") > trials / 10 and outcomes.count("refused") > trials / 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.beton"):
        open_beton(tmp_path / "nowhere.beton")


@pytest.mark.timeout(60)
def test_few_bytes_wait_for_their_turn(tmp_path, monkeypatch):
    """The first sample is slow: only some of the later ones are begun meanwhile, and in the end all are written."""
    monkeypatch.setattr(beton, "WAITING", 5 * 12_288)
    begun, threads, slow = [], 3, Event()

    def sample(index):
        begun.append(index)
        if index == 0:
            slow.wait()
        return raw(64, 64, index, index)

    writer = Thread(target=lambda: list(write(tmp_path / "a.beton", 100, sample, threads)))
    writer.start()
    while len(begun) < 1 + 5:
        sleep(0.01)
    sleep(0.2)
    assert 1 + 5 <= len(begun) <= 1 + 5 + threads - 1
    slow.set()
    writer.join()
    assert open_beton(tmp_path / "a.beton").labels.tolist() == list(range(100))


@pytest.mark.timeout(60)
def test_a_script_that_goes_no_further_ends(tmp_path):
    """Python waits for the threads of a pool before it exits, so no thread may wait for the script."""
    program = """
import sys, pathlib
from twoview.loaders import beton
beton.WAITING = 1
stored = beton.Stored(beton.RAW, 8, 8, bytes(192), 0)
for _ in beton.write(pathlib.Path(sys.argv[1]), 100, lambda index: stored):
    raise ValueError("the script's own")
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.beton"], capture_output=True, text=True)
    assert done.returncode == 1 and "the script's own" in done.stderr


def test_a_field_s_name_that_would_not_print_is_quoted(tmp_path):
    write_all(tmp_path / "a.beton", [raw(8, 8)])
    content = bytearray((tmp_path / "a.beton").read_bytes())
    content[beton.HEADER.itemsize] = beton.INT_FIELD
    start = beton.HEADER.itemsize + 1
    content[start : start + 5] = b"\x1b[2J\n"
    (tmp_path / "a.beton").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.beton") as caught:
        open_beton(tmp_path / "a.beton")
    assert str(caught.value).isprintable() and r"got '\x1b[2J\n' (integer), label" in str(caught.value)
