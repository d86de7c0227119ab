"""Opens each image of a beton once and cuts every view of it: JPEG or raw bytes in, uint8 (size, size, 3) views out.

One compiled call renders a chunk of samples without the interpreter lock, so Python threads run side by side, each
with a `Decoder` of its own. Numba keeps the compiled code on disk: libturbojpeg is loaded into the process for good and
called by name, because Numba caches no function that holds the address of a C function.

All views of a batch live in one flat uint8 buffer, see `output_layout`.
"""

import ctypes
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from llvmlite import binding
from numba import types

from loaders import turbojpeg
from loaders.beton import Beton
from loaders.checksum import xxh64
from loaders.kernels import kernel
from loaders.ops import blur, crop, flip, gray, jitter, resize, solarize
from loaders.views import View

_LIBRARY = turbojpeg.library()
binding.load_library_permanently(_LIBRARY)
_turbojpeg = ctypes.CDLL(_LIBRARY)
_turbojpeg.tjInitDecompress.restype = ctypes.c_void_p
_turbojpeg.tjDestroy.argtypes = [ctypes.c_void_p]
_turbojpeg.tjGetErrorStr2.restype = ctypes.c_char_p

# From turbojpeg.h. Handles and buffers are passed as integers.
_header = types.ExternalFunction(
    "tjDecompressHeader3", types.intc(types.uintp, types.uintp, types.ulong, *[types.uintp] * 4)
)
_decompress = types.ExternalFunction(
    "tjDecompress2", types.intc(types.uintp, types.uintp, types.ulong, types.uintp, *[types.intc] * 5)
)
_RGB = 0
_GRAY = 6
_ACCURATE_DCT = 4096
_CMYK = 3
_YCCK = 4

JPEG = 0
RAW = 1

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

STATUS_TEXT = {
    BAD_JPEG: "the JPEG cannot be decoded: it is damaged, cut short or not a JPEG",
    SIZE_DIFFERS: "the height and width stored with the sample differ from those in the JPEG's header",
    OUT_OF_RANGE: "the sample's bytes lie outside the file",
    RAW_SIZE: "the raw image's bytes are not height * width * 3",
    EMPTY: "the image has no pixels or no bytes",
    CMYK: "the JPEG is CMYK, which has no unique RGB colours",
    BAD_MODE: "the image is neither a JPEG nor raw",
    CHANGED: "the sample's bytes are not those that were written: their checksum differs",
    FOREIGN: "the JPEG is not of a kind that libturbojpeg decodes",
}

# The columns of a view table.
(
    SIZE, SCALE_MIN, SCALE_MAX, RATIO_MIN, RATIO_MAX, RESIZE, BICUBIC, FLIP_P,
    BRIGHTNESS, CONTRAST, SATURATION, HUE, JITTER_P, GRAY_P,
    SIGMA_MIN, SIGMA_MAX, KERNEL, BLUR_P, THRESHOLD, SOLARIZE_P, COLUMNS,
) = range(21)  # fmt: skip

_LONGEST_SIDE = 1 << 20  # pixels; more than any JPEG has, and little enough for products to stay in 64 bits


def jpeg_fault(content: bytes) -> tuple[int, str]:
    """(OK, ""), or why the decoder will not take these bytes, and the library's own words for it where it has some.

    CMYK; BAD_JPEG where the coded data is damaged or cut short, which may be a mere warning of the library's; FOREIGN
    where the picture may be whole all the same, and another decoder has to tell: the library refuses the header, for
    its sampling factors, say, or finds bytes left over between the picture and the marker that ends it.
    All of the coded data is read, but only the luma is made of it, at an eighth of the size: half of a decode's time.
    """
    handle = ctypes.c_void_p(_turbojpeg.tjInitDecompress())
    try:
        header = _jpeg_header(handle, content)
        if header is None:
            return FOREIGN, _words(handle)
        height, width, colours = header
        if colours in (_CMYK, _YCCK):
            return CMYK, ""
        height, width = -(-height // 8), -(-width // 8)
        pixels, size = ctypes.create_string_buffer(height * width), ctypes.c_ulong(len(content))
        if not _turbojpeg.tjDecompress2(handle, content, size, pixels, width, 0, height, _GRAY, 0):
            return OK, ""
        # The words are those of the first warning: where it is about the end of the image, all before was in order.
        words = _words(handle)
        return FOREIGN if "extraneous bytes before marker 0xd9" in words else BAD_JPEG, words
    finally:
        _turbojpeg.tjDestroy(handle)


def jpeg_shape(content: bytes) -> tuple[int, int]:
    """(height, width) in pixels, as the header says. ValueError for bytes that are no JPEG."""
    handle = ctypes.c_void_p(_turbojpeg.tjInitDecompress())
    header = _jpeg_header(handle, content)
    _turbojpeg.tjDestroy(handle)
    if header is None:
        raise ValueError(STATUS_TEXT[BAD_JPEG])
    return header[:2]


def _words(handle: ctypes.c_void_p) -> str:
    """What the library says of its last failure, without the name of its function."""
    said: bytes = _turbojpeg.tjGetErrorStr2(handle)
    return said.decode("ascii", "replace").rpartition("(): ")[2]


def _jpeg_header(handle: ctypes.c_void_p, content: bytes) -> tuple[int, int, int] | None:
    """(height, width, colour space) of turbojpeg.h, or None."""
    width, height, subsampling, colours = (ctypes.c_int() for _ in range(4))
    to = [ctypes.byref(number) for number in (width, height, subsampling, colours)]
    if _turbojpeg.tjDecompressHeader3(handle, content, ctypes.c_ulong(len(content)), *to) != 0:
        return None
    return height.value, width.value, colours.value


def view_table(views: Sequence[View]) -> np.ndarray:
    """The views as numbers: float64 (V, COLUMNS). SCALE_MAX is 0 in a view without a random crop.

    Raises ValueError for a view that cannot be made, naming it.
    """
    table = np.zeros((len(views), COLUMNS), np.float64)
    for row, view in zip(table, views, strict=True):
        if view.size < 1:
            raise ValueError(f"size must be at least 1: {view}")
        if view.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation must be bilinear or bicubic: {view}")
        chances = (view.flip, view.gray, *(op.p for op in (view.jitter, view.blur, view.solarize) if op is not None))
        if not all(0 <= chance <= 1 for chance in chances):
            raise ValueError(f"probabilities must be from 0 to 1: {view}")
        row[SIZE], row[BICUBIC] = view.size, view.interpolation == "bicubic"
        row[FLIP_P], row[GRAY_P] = view.flip, view.gray
        if view.scale is None:
            if view.resize < view.size:
                raise ValueError(f"a centre crop needs resize to be at least size: {view}")
            row[RESIZE] = view.resize
        else:
            for bounds in (view.scale, view.ratio):
                if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
                    raise ValueError(f"scale and ratio must be two positive numbers in ascending order: {view}")
            row[[SCALE_MIN, SCALE_MAX]] = view.scale
            row[[RATIO_MIN, RATIO_MAX]] = view.ratio
        if view.jitter is not None:
            if not all(strength >= 0 for strength in view.jitter[:3]):
                raise ValueError(f"brightness, contrast and saturation must be 0 or above: {view}")
            if not 0 <= view.jitter.hue <= 0.5:
                raise ValueError(f"hue must be in 0 .. 0.5 turns: {view}")
            row[[BRIGHTNESS, CONTRAST, SATURATION, HUE, JITTER_P]] = view.jitter
        if view.blur is not None:
            if view.blur.kernel % 2 != 1 or not 0 < view.blur.kernel // 2 < view.size:
                raise ValueError(f"a blur's kernel must be odd, at least 3 and less than twice the size: {view}")
            if not 0 < view.blur.sigma_min <= view.blur.sigma_max:
                raise ValueError(f"a blur's sigmas must be positive and in ascending order: {view}")
            row[[SIGMA_MIN, SIGMA_MAX, KERNEL, BLUR_P]] = view.blur
        if view.solarize is not None:
            row[[THRESHOLD, SOLARIZE_P]] = view.solarize
    return table


def output_layout(views: Sequence[View], batch: int) -> tuple[np.ndarray, int]:
    """(offsets int64 (V,), total bytes) of a batch's buffer.

    View v is the bytes offsets[v] : offsets[v] + batch * size * size * 3, as (batch, size, size, 3). The views follow
    each other without gaps, so neighbours of equal size are one block.
    """
    ends = np.cumsum([0] + [batch * view.size * view.size * 3 for view in views], dtype=np.int64)
    return ends[:-1], int(ends[-1])


@kernel
def _examine(handle, file, mode, height, width, pointer, size, checksums, sample, header):
    """The status of a sample as far as its bytes' place, their checksum and its header tell it.

    `header` is int32 (4,), overwritten.
    """
    if height < 1 or width < 1 or size < 1:
        return EMPTY
    if pointer < 0 or pointer > file.size or size > file.size - pointer:
        return OUT_OF_RANGE
    if checksums.size and xxh64(file, pointer, size) != checksums[sample]:
        return CHANGED
    if height > _LONGEST_SIDE or width > _LONGEST_SIDE:
        return RAW_SIZE if mode == RAW else SIZE_DIFFERS
    if mode == RAW:
        return OK if size == height * width * 3 else RAW_SIZE
    if mode != JPEG:
        return BAD_MODE
    to = header.ctypes.data
    if _header(handle, file.ctypes.data + pointer, size, to, to + 4, to + 8, to + 12) != 0:
        return BAD_JPEG
    if header[3] == _CMYK or header[3] == _YCCK:
        return CMYK
    if header[0] != width or header[1] != height:
        return SIZE_DIFFERS
    return OK


@kernel
def _cut(source, view, row, seed, epoch, sample, out, scratch):
    """Write one view of a source image, uint8 (H, W, 3), to out, uint8 (size, size, 3). Returns the scratch, grown."""
    height, width, _ = source.shape
    size = out.shape[0]
    if row[SCALE_MAX] > 0:
        top, left, box_height, box_width = crop.draw(
            height, width, row[SCALE_MIN], row[SCALE_MAX], row[RATIO_MIN], row[RATIO_MAX], seed, epoch, sample, view
        )
        full_height, full_width, y, x = size, size, 0, 0
    else:
        top, left, box_height, box_width = 0, 0, height, width
        full_height, full_width, y, x = crop.centre(height, width, int(row[RESIZE]), size)
    flipped = flip.draw(row[FLIP_P], seed, epoch, sample, view)
    kernel = int(row[KERNEL])
    need = max(resize.scratch_bytes(box_height, box_width, size), blur.scratch_bytes(size, kernel))
    if scratch.size < need:
        scratch = np.empty(need, np.uint8)
    bicubic = row[BICUBIC] != 0
    resize.resize(
        source, top, left, box_height, box_width, full_height, full_width, y, x, bicubic, flipped, out, scratch
    )
    if row[JITTER_P] > 0:
        strengths = (row[BRIGHTNESS], row[CONTRAST], row[SATURATION], row[HUE])
        jittered, factors, order = jitter.draw(
            row[BRIGHTNESS], row[CONTRAST], row[SATURATION], row[HUE], row[JITTER_P], seed, epoch, sample, view
        )
        if jittered:
            jitter.jitter(out, strengths, factors, order)
    if row[GRAY_P] > 0 and gray.draw(row[GRAY_P], seed, epoch, sample, view):
        gray.gray(out)
    if row[BLUR_P] > 0:
        blurred, sigma = blur.draw(row[SIGMA_MIN], row[SIGMA_MAX], row[BLUR_P], seed, epoch, sample, view)
        if blurred:
            blur.blur(out, kernel, sigma, scratch)
    if row[SOLARIZE_P] > 0 and solarize.draw(row[SOLARIZE_P], seed, epoch, sample, view):
        solarize.solarize(out, row[THRESHOLD])
    return scratch


@kernel
def _render(handle, file, index, samples, table, seed, epoch, out, offsets, position, pixels, scratch):
    """(status int32 (n,), pixels, scratch): the work of `Decoder.render`; the two scratch buffers come back grown.

    index: (modes, heights, widths, pointers, sizes, checksums).
    """
    modes, heights, widths, pointers, sizes, checksums = index
    status = np.empty(samples.size, np.int32)
    header = np.empty(4, np.int32)
    for i in range(samples.size):
        sample = samples[i]
        height, width, pointer, size = heights[sample], widths[sample], pointers[sample], sizes[sample]
        status[i] = _examine(handle, file, modes[sample], height, width, pointer, size, checksums, sample, header)
        if status[i] != OK:
            continue
        count = height * width * 3
        if modes[sample] == RAW:
            source = file[pointer : pointer + count]
        else:
            if pixels.size < count:
                pixels = np.empty(count, np.uint8)
            source = pixels[:count]
            begin = file.ctypes.data + pointer
            if _decompress(handle, begin, size, pixels.ctypes.data, width, 0, height, _RGB, _ACCURATE_DCT) != 0:
                status[i] = BAD_JPEG
                continue
        image = source.reshape((height, width, 3))
        for view in range(table.shape[0]):
            side = int(table[view, SIZE])
            start = offsets[view] + (position + i) * side * side * 3
            cut = out[start : start + side * side * 3].reshape((side, side, 3))
            scratch = _cut(image, view, table[view], seed, epoch, sample, cut, scratch)
    return status, pixels, scratch


class Decoder:
    """A turbojpeg handle and the scratch buffers of one thread, which no other thread may use. Close it after use."""

    def __init__(self) -> None:
        self._handle = _turbojpeg.tjInitDecompress()
        if not self._handle:
            raise MemoryError("libturbojpeg could not be initialised")
        self._pixels = np.empty(0, np.uint8)
        self._scratch = np.empty(0, np.uint8)

    def render(
        self,
        file: np.ndarray,
        modes: np.ndarray,
        heights: np.ndarray,
        widths: np.ndarray,
        pointers: np.ndarray,
        sizes: np.ndarray,
        checksums: np.ndarray,
        samples: np.ndarray,
        table: np.ndarray,
        seed: int,
        epoch: int,
        out: np.ndarray,
        offsets: np.ndarray,
        position: int,
    ) -> np.ndarray:
        """Write all views of the samples of a chunk and return their status, int32 (n,): OK or a key of STATUS_TEXT.

        file: the whole beton, uint8 1-D, only read.
        modes (uint8, JPEG or RAW), heights, widths (pixels), pointers, sizes (bytes; int64): of all samples there are.
        checksums: uint64, XXH64 of each sample's bytes, compared at every read; empty where the file has none.
        samples: int64 (n,), the numbers of the samples to render; they, with seed (64 bits) and epoch, key the draws.
        table, offsets: from `view_table` and `output_layout`. out: uint8 1-D, the batch's buffer.
        position: the place in the batch of the chunk's first sample.

        Without views each sample is only decoded. A sample whose status is not OK leaves its places in `out` as they
        were.
        Raises IndexError for sample numbers outside the dataset, ValueError where `out` has no room for the chunk or
        the decoder is closed.
        """
        if self._handle is None:
            raise ValueError("the decoder is closed")
        if samples.size and not 0 <= samples.min() <= samples.max() < min(
            modes.size, heights.size, widths.size, pointers.size, sizes.size, checksums.size or modes.size
        ):
            raise IndexError("a sample number is outside the dataset")
        bytes_each = table[:, SIZE].astype(np.int64) ** 2 * 3
        starts, ends = offsets + position * bytes_each, offsets + (position + samples.size) * bytes_each
        if starts.min(initial=0) < 0 or ends.max(initial=0) > out.size:
            raise ValueError("the output buffer has no room for the chunk at this position")
        data = np.asarray(file)[:]
        data.flags.writeable = False
        index = modes, heights, widths, pointers, sizes, checksums
        handle, key, scratch = np.uint64(self._handle), np.uint64(int(seed) & 0xFFFFFFFFFFFFFFFF), self._scratch
        status, self._pixels, self._scratch = _render(
            handle, data, index, samples, table, key, epoch, out, offsets, position, self._pixels, scratch
        )
        return status

    def check(self, beton: Beton, samples: np.ndarray) -> np.ndarray:
        """The status of each of the samples, int32 (n,), by a decode without views; otherwise as `render`."""
        b, nothing = beton, np.empty(0, np.uint8)
        index = b.modes, b.heights, b.widths, b.pointers, b.sizes, b.checksums
        return self.render(b.file, *index, samples, view_table(()), 0, 0, nothing, output_layout((), 0)[0], 0)

    def close(self) -> None:
        """Free the handle and the scratch. A second call does nothing."""
        if self._handle:
            _turbojpeg.tjDestroy(self._handle)
        self._handle = None
        self._pixels = self._scratch = np.empty(0, np.uint8)

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
