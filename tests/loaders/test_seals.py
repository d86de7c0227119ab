"""Sealed files: a flipped bit anywhere is an error that names the file, or changes nothing."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twoview.loaders import arrays, beton
from twoview.loaders.arrays import ARGUMENTS, SEAL, read_arrays, write_arrays
from twoview.loaders.beton import FIELD, HEADER, RAW, SAMPLE, Stored, open_beton, write

INDEX = ("modes", "heights", "widths", "pointers", "sizes", "labels", "checksums")
ORIGIN = {"dataset": "cats", "split": "train"}
NUMBERS = {
    "x": np.random.default_rng(0).normal(size=(12, 7, 5)).astype(np.float32),
    "y": np.random.default_rng(1).integers(0, 9, (12, 3)),
    "z": np.random.default_rng(2).normal(size=(12, 2)),
}
FIRST_ARGUMENTS = HEADER.itemsize + FIELD.fields["arguments"][1]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a file of six images and a description of its source, with pages of 4 kB, and the file's content."""
    path = tmp_path_factory.mktemp("images") / "whole.beton"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beton, "PAGE", 4096)
        for _ in write(path, 6, lambda i: Stored(RAW, 4, 4, bytes([i] * 48), i), about=lambda: ORIGIN):
            pass
    return open_beton(path), path.read_bytes()


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """Return the content of a file of arrays, with pages of 4 kB."""
    path = tmp_path_factory.mktemp("numbers") / "whole.beton"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "PAGE", 4096)
        write_arrays(path, NUMBERS)
    return path.read_bytes()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def images_are_told(path, whole, content):
    path.write_bytes(content)
    try:
        file = open_beton(path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    assert all(np.array_equal(getattr(file, name), getattr(whole, name)) for name in INDEX)
    assert (file.index, file.about, file.fields) == (whole.index, whole.about, whole.fields)


def numbers_are_told(path, content):
    path.write_bytes(content)
    try:
        found = read_arrays(path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    assert found.keys() == NUMBERS.keys()
    assert all(
        found[name].dtype == NUMBERS[name].dtype and np.array_equal(found[name], NUMBERS[name]) for name in found
    )


def test_every_bit_of_the_header_of_images(images, tmp_path):
    whole, content = images
    for bit in range(8 * HEADER.itemsize):
        images_are_told(tmp_path / "flipped.beton", whole, flipped(content, bit))


@given(place=st.floats(0, 1, exclude_max=True), part=st.integers(0, 2))
def test_a_bit_of_the_rest_of_images_and_not_of_a_sample(place, part, images, tmp_path):
    """Descriptors, metadata, seal, checksums, description, table. A sample's own bits are checked when it is read."""
    whole, content = images
    seal = FIRST_ARGUMENTS + FIELD.itemsize
    metadata_end = HEADER.itemsize + 2 * FIELD.itemsize + 6 * SAMPLE.itemsize
    start, end = ((HEADER.itemsize, metadata_end), (seal, seal + beton.SEAL.itemsize), (8192, len(content)))[part]
    assert whole.pointers[-1] + whole.sizes[-1] < 8192
    bit = 8 * start + int(place * 8 * (end - start))
    images_are_told(tmp_path / "flipped.beton", whole, flipped(content, bit))


def test_every_bit_of_the_header_of_arrays(numbers, tmp_path):
    for bit in range(8 * HEADER.itemsize):
        numbers_are_told(tmp_path / "flipped.beton", flipped(numbers, bit))


def test_every_bit_of_the_seal_of_arrays(numbers, tmp_path):
    end = HEADER.itemsize + len(NUMBERS) * FIELD.itemsize
    for bit in range(8 * (end - SEAL.itemsize), 8 * end):
        numbers_are_told(tmp_path / "flipped.beton", flipped(numbers, bit))


@given(place=st.floats(0, 1, exclude_max=True))
def test_a_bit_of_arrays_anywhere(place, numbers, tmp_path):
    numbers_are_told(tmp_path / "flipped.beton", flipped(numbers, int(place * 8 * len(numbers))))


def unsealed(path):
    """Return the bytes of a file with one field, x of ones (4, 3), as FFCV writes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "PAGE", 4096)
        write_arrays(path, {"x": np.ones((4, 3), np.float32)})
    content = bytearray(path.read_bytes())
    content[FIRST_ARGUMENTS + 1024 - SEAL.itemsize : FIRST_ARGUMENTS + 1024] = bytes(SEAL.itemsize)
    return content


def put(place: int, value: int):
    return lambda content: struct.pack_into("<Q", content, place, value)


def described(text: bytes):
    """Replace the text of the dtype."""

    def change(content):
        start = FIRST_ARGUMENTS + ARGUMENTS.itemsize
        content[start : FIRST_ARGUMENTS + 1024] = text.ljust(1024 - ARGUMENTS.itemsize, b"\0")
        put(start - 8, len(text))(content)

    return change


POINTERS = HEADER.itemsize + FIELD.itemsize
WRONG = {
    "a side of 2^63": (put(FIRST_ARGUMENTS, 2**63), "a sample of field x must have at most 2,147,483,648 bytes"),
    "a side of 2^20": (put(FIRST_ARGUMENTS, 2**20), "is truncated"),
    "a side behind none": (put(FIRST_ARGUMENTS + 16, 3), "field x must have a shape"),
    "a pointer of 2^63 - 1": (put(POINTERS, 2**63 - 1), "a sample of field x lies outside the file"),
    "a pointer of 2^64 - 1": (put(POINTERS, 2**64 - 1), "a sample of field x lies outside the file"),
    "no samples": (put(8, 0), "must hold at least one sample"),
    "2^60 samples": (put(8, 2**60), "must have at most 1,000,000,000 samples"),
    "a billion samples": (put(8, 10**9), "is truncated"),
    "a table beyond the end": (put(16, 2**63), "is truncated"),
    **{
        f"dtype {code}": (described(b'[["", %s]]' % code.encode()), "field x must be of numbers")
        for code in ('"O"', '"(3,)f4"', "null", '"f3"', '"V8"', '"M8[s]"', "[]", '"<f4,<f4"', '""', '"<f444444444444"')
    },
    "no dtype": (described(b""), "field x must be of numbers"),
    "brackets": (described(b"[" * 700), "field x must be of numbers"),
    "two dtypes": (described(b'[["a", "<f4"], ["b", "<f4"]]'), "field x must be of numbers"),
    "a dtype's end": (lambda content: content.__setitem__(FIRST_ARGUMENTS + 900, 1), "is not what was written"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_arrays_is_a_sentence_that_names_the_file(what, tmp_path):
    path = tmp_path / "a.beton"
    content = unsealed(path)
    path.write_bytes(content)
    assert np.array_equal(read_arrays(path)["x"], np.ones((4, 3))), "the unchanged one is FFCV's"
    change, complaint = WRONG[what]
    change(content)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_arrays(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 300


def test_two_fields_of_one_name_are_refused(tmp_path):
    write_arrays(tmp_path / "a.beton", {"x": np.ones((2, 2)), "y": np.ones((2, 2))})
    content = bytearray((tmp_path / "a.beton").read_bytes())
    content[HEADER.itemsize + FIELD.itemsize + 1] = ord("x")
    (tmp_path / "a.beton").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.beton must hold fields with different names, got x twice"):
        read_arrays(tmp_path / "a.beton")


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[1]", b"9" * 5000, b"{", b"\xff"])
def test_an_origin_that_is_none_is_damage(text, images, tmp_path):
    """With a matching checksum, which accidental damage would not have."""
    _, content = images
    table = 6 * beton.ALLOCATION.itemsize
    end = content.index(b'{"dataset"')
    origin = text + beton.xxh64_of(text).to_bytes(8, "little")
    changed = bytearray(content[:end] + origin + content[-table:])
    put(16, end + len(origin))(changed)
    (tmp_path / "a.beton").write_bytes(changed)
    with pytest.raises(ValueError, match=r"a\.beton is damaged: the description of what it was made of"):
        open_beton(tmp_path / "a.beton")
