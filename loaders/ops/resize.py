"""Antialiased resize of a box of an image, bilinear or bicubic (a = -0.5), bit for bit as PIL does it.

PIL (`src/libImaging/Resample.c`) crops, filters along the rows, rounds to 8 bits, then filters along the columns; the
filter's support grows with the reduction. From Pillow 13 the columns come first where the height shrinks by more than
twice the pixels that the width shrinks by. The order and the place of the rounding matter: the other order moves one
pixel in six by a level, and bicubic's overshoot by more.

Along the rows a pixel of eight lines makes a vector (`columns.py`), along the columns 32 neighboring bytes do; the
sums are in `taps.py`. At 224 pixels from a box of 337 x 450 that takes 148 us, where four lines side by side took 225.

A flip costs nothing here: the table of the horizontal taps is written backwards.
"""

import numpy as np

from twoview.loaders.kernels import kernel
from twoview.loaders.ops.columns import COLUMN, LINES, from_columns, to_columns
from twoview.loaders.ops.taps import BITS, weigh_32_bytes, weigh_pixel, weigh_row


@kernel
def _bilinear(x):
    return max(0.0, 1.0 - abs(x))


@kernel
def _bicubic(x):
    x = abs(x)
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
    return (1.5 * x - 2.5) * x * x + 1.0 if x < 1.0 else outer


@kernel(error_model="numpy")
def _taps(length, full, first, count, bicubic, backwards):
    """The sources of output pixels first .. first + count of a line of `length` pixels resized to `full`.

    Returns (starts int64 (count,), weights int32 (count * taps,), taps): output i is the sum over k < taps of
    weights[i * taps + k] * line[starts[i] + k]. The number of taps is the same for all, so that the inner loop's exit
    is predicted; zero weights fill the gaps. Outputs before 0 or from `full` on have no others, and so are black.
    `backwards` mirrors the outputs.

    The loops over the outputs vectorise, in PIL's float64; places in the line are whole numbers there.
    """
    scale = length / full
    stretch = max(1.0, scale)
    support = (2.0 if bicubic else 1.0) * stretch
    table = np.empty((4, count), np.float64)
    centers, begins, ends, totals = table[0], table[1], table[2], table[3]
    most = np.int32(1)
    for i in range(count):
        centers[i] = (first + i + 0.5) * scale
        begins[i] = np.trunc(max(0.0, centers[i] - support + 0.5))
        ends[i] = np.trunc(min(np.float64(length), centers[i] + support + 0.5))
        totals[i] = 0.0
        most = max(most, np.int32(ends[i] - begins[i]))
    for i in range(min(-first, count)):
        ends[i], totals[i] = 0.0, 1.0
    for i in range(max(full - first, 0), count):
        ends[i], totals[i] = 0.0, 1.0
    taps = int(most)
    exact = np.empty((taps, count), np.float64)
    for k in range(taps):
        row = exact[k]
        for i in range(count):
            place = min(begins[i], np.float64(length - taps)) + k
            x = (place - centers[i] + 0.5) * (1.0 / stretch)
            value = _bicubic(x) if bicubic else _bilinear(x)
            row[i] = value if begins[i] <= place and place < ends[i] else 0.0
            totals[i] += row[i]
    starts, weights = np.empty(count, np.int64), np.empty(count * taps, np.int32)
    for k in range(taps):
        row = exact[k]
        for i in range(count):
            weight = row[i] / totals[i] * (1 << BITS)
            row[i] = weight - 0.5 if weight < 0 else weight + 0.5
    for i in range(count):
        to = count - 1 - i if backwards else i
        starts[to] = min(int(begins[i]), length - taps)
        for k in range(taps):
            weights[to * taps + k] = np.int32(exact[k, i])
    return starts, weights, taps


@kernel
def _filter_rows(out, source, at, pitch, height, starts, weights, taps, scratch):
    """Resize `height` lines of RGB pixels, the first at source[at], `pitch` bytes apart, into out, one after another.

    Eight lines go together, as columns; the last eight may overlap those before them. The few lines or columns of a
    box or an output of less than eight go pixel by pixel.
    """
    count = starts.size
    first, last = min(starts[0], starts[-1]), max(starts[0], starts[-1]) + taps
    if min(height, count, last - first) < LINES:
        for row in range(height):
            for i in range(count):
                start = at + row * pitch + 3 * starts[i]
                weigh_pixel(out, (row * count + i) * 3, source, start, 3, weights, i * taps, taps)
        return
    columns = scratch[: COLUMN * (last - first)]
    filtered = scratch[columns.size : columns.size + COLUMN * count]
    for group in range(0, height, LINES):
        row = min(group, height - LINES)
        to_columns(columns, source, at + row * pitch + 3 * first, pitch, last - first)
        for i in range(count):
            start = COLUMN * (starts[i] - first)
            weigh_32_bytes(filtered, COLUMN * i, columns, start, COLUMN, weights, i * taps, taps)
        from_columns(out, row * count * 3, count * 3, filtered, count)


@kernel
def _filter_columns(out, source, at, pitch, width, starts, weights, taps):
    """Resize `width` columns of RGB pixels, the first at source[at], into the lines of out, one after another."""
    for i in range(starts.size):
        weigh_row(out, i * width * 3, source, at + starts[i] * pitch, pitch, weights, i * taps, taps, width * 3)


@kernel
def scratch_bytes(height, width, size):
    """Bytes of scratch that `resize` needs for a box of (height, width) and an output of (size, size) pixels."""
    return max(height, width) * size * 3 + COLUMN * (width + size)


@kernel
def resize(source, top, left, height, width, full_height, full_width, y, x, bicubic, flip, out, scratch):
    """Write to out, uint8 (h, w, 3), the part at (y, x) of the box (top, left, height, width) of source resized to
    (full_height, full_width), mirrored left to right if `flip`. What of that part lies outside is black.

    source: uint8 (H, W, 3), C-contiguous, not written. scratch: uint8 1-D, `scratch_bytes(height, width, max(h, w))`.
    """
    out_height, out_width, _ = out.shape
    pitch = source.shape[1] * 3
    pixels, at, result = source.reshape(-1), top * pitch + left * 3, out.reshape(-1)
    columns, column_weights, column_taps = _taps(width, full_width, x, out_width, bicubic, flip)
    rest, half = scratch[: COLUMN * (width + out_width)], scratch[COLUMN * (width + out_width) :]
    rows, row_weights, row_taps = _taps(height, full_height, y, out_height, bicubic, False)
    if height > full_height and height - full_height > 2 * (width - full_width):
        _filter_columns(half, pixels, at, pitch, width, rows, row_weights, row_taps)
        _filter_rows(result, half, 0, width * 3, out_height, columns, column_weights, column_taps, rest)
    else:
        first, last = rows[0], rows[-1] + row_taps
        at += first * pitch
        rows -= first
        _filter_rows(half, pixels, at, pitch, last - first, columns, column_weights, column_taps, rest)
        _filter_columns(result, half, 0, out_width * 3, out_width, rows, row_weights, row_taps)


def twin(image, top, left, height, width, size, bicubic=False):
    """The resized crop of a uint8 (H, W, 3) image by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    return np.asarray(F.resized_crop(Image.fromarray(image), top, left, height, width, [size, size], mode))
