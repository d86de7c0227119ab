"""Decodes each image of a beton file once and cuts all its views: JPEG or raw bytes -> uint8 (size, size, 3) views.

One compiled call renders a chunk of samples without holding the GIL, so Python threads run in parallel, each with a
`Decoder` of its own. Numba keeps the compiled code on disk. To allow this, libturbojpeg is loaded permanently and its
functions are called by name, because Numba does not cache a function that contains the address of a C function.

All views of a batch are stored in one flat uint8 buffer, see `output_layout`.
"""

import ctypes
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from llvmlite import binding
from numba import types

from twoview.loaders import turbojpeg
from twoview.loaders.beton import Beton, Layout
from twoview.loaders.checksum import xxh64
from twoview.loaders.kernels import kernel
from twoview.loaders.limits import PIXELS
from twoview.loaders.ops import crop, flip, resize
from twoview.loaders.ops.op import Op
from twoview.loaders.views import OPS, View, ops_of

_LIBRARY = turbojpeg.library()
binding.load_library_permanently(_LIBRARY)
_turbojpeg = ctypes.CDLL(_LIBRARY)
_turbojpeg.tjInitDecompress.restype = ctypes.c_void_p
_turbojpeg.tjDestroy.argtypes = [ctypes.c_void_p]
_turbojpeg.tjGetErrorStr2.restype = ctypes.c_char_p

# Functions and constants from turbojpeg.h. Handles and buffers are passed as integers.
_header = types.ExternalFunction(
    "tjDecompressHeader3", types.intc(types.uintp, types.uintp, types.ulong, *[types.uintp] * 4)
)
_decompress = types.ExternalFunction(
    "tjDecompress2", types.intc(types.uintp, types.uintp, types.ulong, types.uintp, *[types.intc] * 5)
)
# `pread` of the C library. Files are read and not mapped into memory: if a mapped file is cut short, an access to the
# missing part ends the process.
pread: Any = types.ExternalFunction("pread", types.intp(types.intc, types.uintp, types.uintp, types.int64))
_RGB = 0
_GRAY = 6
_INKS = 11  # TJPF_CMYK
_ACCURATE_DCT = 4096
_LIMIT_SCANS = 32768  # at most 500 scans: a progressive JPEG may have any number, and each goes over all pixels
_CMYK = 3
_YCCK = 4

# The modes in which a sample can be stored, as in `loaders/beton.py`.
JPEG = 0
RAW = 1

# The status of a sample after an attempt to render it.
OK = 0
BAD_JPEG = 1
SIZE_DIFFERS = 2
OUT_OF_RANGE = 3
RAW_SIZE = 4
EMPTY = 5
CMYK = 6
BAD_MODE = 7
CHANGED = 8
FOREIGN = 9
TOO_LARGE = 10
UNREADABLE = 11

STATUS_TEXT = {
    BAD_JPEG: "the JPEG cannot be decoded: it is damaged, cut short or not a JPEG",
    SIZE_DIFFERS: "the height and width stored with the sample differ from those in the JPEG's header",
    OUT_OF_RANGE: "the sample's bytes lie outside the file",
    RAW_SIZE: "the raw image does not have height * width * 3 bytes",
    EMPTY: "the image has no pixels or no bytes",
    CMYK: "the JPEG is CMYK, which has no unique RGB colors",
    BAD_MODE: "the image is stored neither as a JPEG nor as raw pixels",
    CHANGED: "the sample's bytes are not those that were written: their checksum differs",
    FOREIGN: "the JPEG is not of a kind that libturbojpeg decodes",
    TOO_LARGE: f"the image has more pixels than the environment variable {PIXELS.variable} allows",
    UNREADABLE: "the sample's bytes cannot be read: the file was cut since it was opened, or its disk is damaged",
}

# The columns of a view table (`view_table`), which has one row per view. The settings of each op follow behind them.
SIZE, SCALE_MIN, SCALE_MAX, RATIO_MIN, RATIO_MAX, RESIZE, PADDING, BICUBIC, FLIP_P, SCRATCH, FIRST = range(11)
_ENDS = FIRST + np.cumsum([op.width for op in OPS.values()])
# Name of an op -> the columns of its settings.
SETTINGS = {name: slice(int(end) - op.width, int(end)) for (name, op), end in zip(OPS.items(), _ENDS, strict=True)}
COLUMNS = int(_ENDS[-1])


def jpeg_fault(content: bytes) -> tuple[int, str]:
    """Return (OK, "") for a JPEG that the loader can decode, else (status, libturbojpeg's message, if it has one).

    CMYK: the image is intact but CMYK. BAD_JPEG: the coded data is damaged or cut short, even if the library only warns
    about it. FOREIGN: the image may be intact, but another decoder has to find out, because the library refuses the
    header (for its sampling factors, for example) or finds extra bytes between the image and its end marker.
    This reads all of the coded data, but reconstructs only the luma channel, or the four CMYK channels, at an eighth of
    the size. It takes half the time of a full decode.
    """
    handle = ctypes.c_void_p(_turbojpeg.tjInitDecompress())
    try:
        header = _jpeg_header(handle, content)
        if header is None:
            return FOREIGN, _words(handle)
        height, width, colors = header
        inks = colors in (_CMYK, _YCCK)
        height, width = -(-height // 8), -(-width // 8)
        pixels = ctypes.create_string_buffer(height * width * (4 if inks else 1))
        size, kind = ctypes.c_ulong(len(content)), _INKS if inks else _GRAY
        if not _turbojpeg.tjDecompress2(handle, content, size, pixels, width, 0, height, kind, _LIMIT_SCANS):
            return (CMYK, "") if inks else (OK, "")
        # The library reports its first warning: if that is about the end of the image, everything before was in order.
        words = _words(handle)
        return FOREIGN if "extraneous bytes before marker 0xd9" in words else BAD_JPEG, words
    finally:
        _turbojpeg.tjDestroy(handle)


def jpeg_shape(content: bytes) -> tuple[int, int]:
    """Return (height, width) in pixels from a JPEG's header. Raises ValueError for bytes that are not a JPEG."""
    handle = ctypes.c_void_p(_turbojpeg.tjInitDecompress())
    header = _jpeg_header(handle, content)
    _turbojpeg.tjDestroy(handle)
    if header is None:
        raise ValueError(STATUS_TEXT[BAD_JPEG])
    return header[:2]


def fault(beton: Beton, sample: int, status: int) -> str:
    """Return the message for a sample whose status is not OK, with the numbers if it is about a limit."""
    if status == TOO_LARGE:
        return f"the image {PIXELS.fault(int(beton.heights[sample]) * int(beton.widths[sample]))}"
    return STATUS_TEXT[status]


def _words(handle: ctypes.c_void_p) -> str:
    """Return libturbojpeg's message about its last failure, without the name of the C function in front of it."""
    said: bytes = _turbojpeg.tjGetErrorStr2(handle)
    return said.decode("ascii", "replace").rpartition("(): ")[2]


def _jpeg_header(handle: ctypes.c_void_p, content: bytes) -> tuple[int, int, int] | None:
    """Return (height, width, color space), the last as numbered in turbojpeg.h; None if the header cannot be read."""
    width, height, subsampling, colors = (ctypes.c_int() for _ in range(4))
    to = [ctypes.byref(number) for number in (width, height, subsampling, colors)]
    if _turbojpeg.tjDecompressHeader3(handle, content, ctypes.c_ulong(len(content)), *to) != 0:
        return None
    return height.value, width.value, colors.value


def view_table(views: Sequence[View]) -> np.ndarray:
    """Return the settings of V views as numbers, float64 (V, COLUMNS), for the kernels.

    SCALE_MAX is 0 in a view without a random resized crop, and PADDING is -1 in a view without padding.
    Raises ValueError, naming the view, if a view cannot be made.
    """
    table = np.zeros((len(views), COLUMNS), np.float64)
    for row, view in zip(table, views, strict=True):
        if view.size < 1:
            raise ValueError(f"size must be at least 1, got {view.size}: {view}")
        PIXELS.check(view.size**2, f"a view of size {view.size}")
        if view.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation must be bilinear or bicubic, got {view.interpolation!r}: {view}")
        for name, op in OPS.items():
            row[SETTINGS[name]] = op.row(getattr(view, name))
        chances = (view.flip, *(row[places][-1] for places in SETTINGS.values()))
        if not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(f"probabilities must be from 0 to 1: {view}")
        row[SIZE], row[BICUBIC], row[FLIP_P] = view.size, view.interpolation == "bicubic", view.flip
        row[PADDING] = -1 if view.padding is None else view.padding
        PIXELS.check(view.resize**2, f"a view resized to {view.resize}")
        if view.scale is not None:
            if view.padding is not None:
                raise ValueError(f"padding must be None where scale is given, got {view.padding}: {view}")
            for bounds in (view.scale, view.ratio):
                if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
                    raise ValueError(f"scale and ratio must be two positive numbers in ascending order: {view}")
            row[[SCALE_MIN, SCALE_MAX]] = view.scale
            row[[RATIO_MIN, RATIO_MAX]] = view.ratio
        elif view.padding is None:
            if view.resize < view.size:
                raise ValueError(f"resize must be at least size for a center crop, got {view.resize}: {view}")
            row[RESIZE] = view.resize
        else:
            row[RESIZE] = view.resize or view.size
            if row[RESIZE] + 2 * view.padding < view.size:
                raise ValueError(
                    f"resize + 2 * padding must be at least size, got {int(row[RESIZE] + 2 * view.padding)}: {view}"
                )
        for name, settings in ops_of(view).items():
            try:
                OPS[name].check(settings, view.size)
            except ValueError as error:
                raise ValueError(f"{error}: {view}") from None
            row[SCRATCH] = max(row[SCRATCH], OPS[name].scratch(settings, view.size))
    return table


def output_layout(views: Sequence[View], batch: int) -> tuple[np.ndarray, int]:
    """Return (offsets int64 (V,), total bytes) of the buffer that holds V views of a batch of `batch` images.

    View v takes the bytes offsets[v] : offsets[v] + batch * size * size * 3, as an array (batch, size, size, 3). The
    views follow each other without gaps, so neighboring views of equal size form one block.
    """
    ends = np.cumsum([0] + [batch * view.size * view.size * 3 for view in views], dtype=np.int64)
    return ends[:-1], int(ends[-1])


@kernel
def _examine(mode, height, width, pointer, size, file_size, most_pixels):
    """Return the status of a sample from its table entries alone, before it is read or memory is allocated for it."""
    if height < 1 or width < 1 or size < 1:
        return EMPTY
    if pointer < 0 or pointer > file_size or size > file_size - pointer:
        return OUT_OF_RANGE
    if mode != RAW and mode != JPEG:
        return BAD_MODE
    if height > most_pixels // width:  # the product may be too large for 64 bits
        return TOO_LARGE
    if mode == RAW and size != height * width * 3:
        return RAW_SIZE
    return OK


@kernel
def _read(descriptor, pointer, size, content):
    """Fill content[:size] with the file's bytes from `pointer` on. Returns False if the file ends or a read fails."""
    done = 0
    while done < size:
        count = pread(descriptor, content.ctypes.data + done, size - done, pointer + done)
        if count <= 0:
            return False
        done += count
    return True


@kernel
def _jpeg_status(handle, content, size, height, width, header):
    """Return the status of a JPEG from its header alone. header: int32 (4,), scratch memory that is overwritten."""
    to = header.ctypes.data
    if _header(handle, content.ctypes.data, size, to, to + 4, to + 8, to + 12) != 0:
        return BAD_JPEG
    if header[3] == _CMYK or header[3] == _YCCK:
        return CMYK
    if header[0] != width or header[1] != height:
        return SIZE_DIFFERS
    return OK


def _in_turn(ops: Sequence[tuple[str, Op]]) -> Any:
    """Return a kernel that applies the ops to an image in turn, each with its settings from the view's row.

    A view has an op if the last of the op's settings, the probability, is above 0.
    """
    if not ops:
        return kernel(lambda image, row, scratch, seed, epoch, sample, view: None, kept=False, inline="always")
    (name, op), *others = ops
    apply, rest, begin, end = op.apply, _in_turn(others), SETTINGS[name].start, SETTINGS[name].stop

    @kernel(kept=False, inline="always")
    def run(image, row, scratch, seed, epoch, sample, view):
        if row[end - 1] > 0:
            apply(image, row[begin:end], scratch, seed, epoch, sample, view)
        rest(image, row, scratch, seed, epoch, sample, view)

    return run


_apply = _in_turn(list(OPS.items()))


@kernel
def part(row, height, width, seed, epoch, sample, view):
    """Return (full height, full width, top, left) for a view without a random resized crop.

    The whole image is resized to the full height and width, and the view's top left corner lies at (top, left) in it.
    """
    if row[PADDING] >= 0:
        return crop.padded(
            height, width, int(row[RESIZE]), int(row[SIZE]), int(row[PADDING]), seed, epoch, sample, view
        )
    return crop.center(height, width, int(row[RESIZE]), int(row[SIZE]))


@kernel
def _cut(source, view, row, seed, epoch, sample, out, scratch):
    """Write one view of a source image, uint8 (H, W, 3), to `out`, uint8 (size, size, 3).

    view: the view's number. row: its row of the view table. scratch: uint8 1-D, working memory. Returns the scratch,
    replaced by a larger one if it was too small.
    """
    height, width, _ = source.shape
    size = out.shape[0]
    if row[SCALE_MAX] > 0:
        top, left, box_height, box_width = crop.draw(
            height, width, row[SCALE_MIN], row[SCALE_MAX], row[RATIO_MIN], row[RATIO_MAX], seed, epoch, sample, view
        )
        full_height, full_width, y, x = size, size, 0, 0
    else:
        top, left, box_height, box_width = 0, 0, height, width
        full_height, full_width, y, x = part(row, height, width, seed, epoch, sample, view)
    flipped = flip.draw(row[FLIP_P], seed, epoch, sample, view)
    need = max(resize.scratch_bytes(box_height, box_width, size), int(row[SCRATCH]))
    if scratch.size < need:
        scratch = np.empty(need, np.uint8)
    bicubic = row[BICUBIC] != 0
    resize.resize(
        source, top, left, box_height, box_width, full_height, full_width, y, x, bicubic, flipped, out, scratch
    )
    _apply(out, row, scratch, seed, epoch, sample, view)
    return scratch


@kernel
def _render(
    handle, descriptor, file_size, most_pixels, stored, samples, table, seed, epoch, out, offsets, position,
    content, pixels, scratch,
):  # fmt: skip
    """Do the work of `Decoder.render`. Returns (status int32 (n,), content, pixels, scratch).

    stored: a `SampleTable`. content, pixels, scratch: buffers for a sample's bytes, its decoded pixels, and the work of
    the ops. They are returned because they are replaced by larger ones where they are too small.
    """
    status = np.empty(samples.size, np.int32)
    header = np.empty(4, np.int32)
    for i in range(samples.size):
        sample = samples[i]
        mode, height, width = stored.modes[sample], stored.heights[sample], stored.widths[sample]
        pointer, size = stored.pointers[sample], stored.sizes[sample]
        status[i] = _examine(mode, height, width, pointer, size, file_size, most_pixels)
        if status[i] != OK:
            continue
        if content.size < size:
            content = np.empty(size, np.uint8)
        if not _read(descriptor, pointer, size, content):
            status[i] = UNREADABLE
            continue
        if stored.checksums.size and xxh64(content, 0, size) != stored.checksums[sample]:
            status[i] = CHANGED
            continue
        count = height * width * 3
        if mode == RAW:
            source = content[:count]
        else:
            status[i] = _jpeg_status(handle, content, size, height, width, header)
            if status[i] != OK:
                continue
            if pixels.size < count:
                pixels = np.empty(count, np.uint8)
            source = pixels[:count]
            flags = _ACCURATE_DCT | _LIMIT_SCANS
            if _decompress(handle, content.ctypes.data, size, pixels.ctypes.data, width, 0, height, _RGB, flags) != 0:
                status[i] = BAD_JPEG
                continue
        image = source.reshape((height, width, 3))
        for view in range(table.shape[0]):
            side = int(table[view, SIZE])
            start = offsets[view] + (position + i) * side * side * 3
            cut = out[start : start + side * side * 3].reshape((side, side, 3))
            scratch = _cut(image, view, table[view], seed, epoch, sample, cut, scratch)
    return status, content, pixels, scratch


class Decoder:
    """A libturbojpeg handle and the working memory of one thread. No other thread may use it. Close it after use."""

    def __init__(self) -> None:
        self._handle = _turbojpeg.tjInitDecompress()
        if not self._handle:
            raise MemoryError("libturbojpeg could not be initialized")
        self._content, self._pixels, self._scratch = (np.empty(0, np.uint8) for _ in range(3))

    def render(
        self,
        layout: Layout,
        samples: np.ndarray,
        table: np.ndarray,
        seed: int,
        epoch: int,
        out: np.ndarray,
        offsets: np.ndarray,
        position: int,
    ) -> np.ndarray:
        """Write all views of a chunk of samples and return their status, int32 (n,): OK or a key of STATUS_TEXT.

        layout: the open beton file and the table of its samples. Each sample is read from the file, and compared with
        its checksum, at every call.
        samples: int64 (n,), the numbers of the samples to render. With seed (64 bits) and epoch, a sample's number
        determines its random draws.
        table, offsets: from `view_table` and `output_layout`. out: uint8 1-D, the batch's buffer.
        position: the row of the batch at which the chunk's first sample goes.

        Without views, each sample is only decoded. If a sample's status is not OK, its rows in `out` are unchanged.
        Raises IndexError for a sample number outside the dataset, and ValueError if `out` has no room for the chunk or
        the decoder is closed.
        """
        if self._handle is None:
            raise ValueError("the decoder is closed")
        opened, stored = layout
        least = min(array.size for array in stored[:-1])
        if samples.size and not 0 <= samples.min() <= samples.max() < min(least, stored.checksums.size or least):
            raise IndexError("sample numbers must be at least 0 and below the number of samples in the dataset")
        bytes_each = table[:, SIZE].astype(np.int64) ** 2 * 3
        starts, ends = offsets + position * bytes_each, offsets + (position + samples.size) * bytes_each
        if starts.min(initial=0) < 0 or ends.max(initial=0) > out.size:
            raise ValueError("the output buffer has no room for the chunk at this position")
        status: np.ndarray
        status, self._content, self._pixels, self._scratch = _render(
            np.uint64(self._handle), np.int32(opened.descriptor), np.int64(opened.size), np.int64(PIXELS.value),
            stored, samples, table, np.uint64(int(seed) & 0xFFFFFFFFFFFFFFFF), epoch, out, offsets, position,
            self._content, self._pixels, self._scratch,
        )  # fmt: skip
        return status

    def check(self, beton: Beton, samples: np.ndarray) -> np.ndarray:
        """Return the status of each of the samples, int32 (n,), by decoding them without making views. See `render`."""
        nothing = np.empty(0, np.uint8)
        return self.render(beton.layout, samples, view_table(()), 0, 0, nothing, output_layout((), 0)[0], 0)

    def close(self) -> None:
        """Free the handle and the working memory. A second call does nothing."""
        if self._handle:
            _turbojpeg.tjDestroy(self._handle)
        self._handle = None
        self._content = self._pixels = self._scratch = np.empty(0, np.uint8)

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
