"""Antialiased resize of a box of an image, bilinear or bicubic (a = -0.5), equal to PIL's bit for bit.

PIL (`src/libImaging/Resample.c`) crops, filters along the rows, rounds to 8 bits, then filters along the columns. The
filter's support grows with the reduction. From Pillow 13 on, the columns come first if the height shrinks by more than
twice as many pixels as the width. The order and the point of rounding matter: the other order changes one pixel in six
by one level, and by more where bicubic overshoots.

Along the rows, one vector holds one pixel from each of eight lines (`columns.py`); along the columns, it holds 32
neighboring bytes. The sums are in `taps.py`. A resize from a box of 337 x 450 pixels to 224 pixels takes 148 us; with
four lines side by side it took 225 us.

A flip costs nothing here: the table of the horizontal taps is written in reverse order.
"""

import numpy as np

from twoview.loaders.kernels import kernel
from twoview.loaders.ops.columns import COLUMN, LINES, from_columns, to_columns
from twoview.loaders.ops.taps import BITS, weigh_32_bytes, weigh_pixel, weigh_row


@kernel
def _bilinear(x):
    """Return the triangle filter, max(0, 1 - |x|)."""
    return max(0.0, 1.0 - abs(x))


@kernel
def _bicubic(x):
    """Return the cubic convolution filter with a = -0.5; it is 0 from |x| = 2 on."""
    x = abs(x)
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
    return (1.5 * x - 2.5) * x * x + 1.0 if x < 1.0 else outer


@kernel(error_model="numpy")
def _taps(length, full, first, count, bicubic, backwards):
    """Return the source pixels and weights of `count` output pixels, from `first` on, of a resized line.

    length: pixels of the line. full: pixels of the whole resized line. backwards: mirror the output pixels.

    Returns (starts int64 (count,), weights int32 (count * taps,), taps): output i is the sum over k < taps of
    weights[i * taps + k] * line[starts[i] + k]. All outputs have the same number of taps, filled up with zero weights,
    so that the processor predicts the end of the inner loop. Outputs before 0 or from `full` on have only zero weights,
    and are therefore black.

    LLVM vectorizes the loops over the outputs. They compute in float64 as PIL does, so positions in the line are whole
    numbers stored as float64.
    """
    scale = length / full
    stretch = max(1.0, scale)
    support = (2.0 if bicubic else 1.0) * stretch
    table = np.empty((4, count), np.float64)
    centers, begins, ends, totals = table[0], table[1], table[2], table[3]
    most = np.int32(1)
    # Output i is centered at centers[i] in the line and takes the pixels begins[i] .. ends[i] - 1, within its support.
    for i in range(count):
        centers[i] = (first + i + 0.5) * scale
        begins[i] = np.trunc(max(0.0, centers[i] - support + 0.5))
        ends[i] = np.trunc(min(np.float64(length), centers[i] + support + 0.5))
        totals[i] = 0.0
        most = max(most, np.int32(ends[i] - begins[i]))
    # Outputs outside the resized line take no pixels; a total of 1 avoids 0 / 0 below.
    for i in range(min(-first, count)):
        ends[i], totals[i] = 0.0, 1.0
    for i in range(max(full - first, 0), count):
        ends[i], totals[i] = 0.0, 1.0
    taps = int(most)
    # The filter's value at each tap, and their sum, by which they are divided below.
    exact = np.empty((taps, count), np.float64)
    for k in range(taps):
        row = exact[k]
        for i in range(count):
            place = min(begins[i], np.float64(length - taps)) + k
            x = (place - centers[i] + 0.5) * (1.0 / stretch)
            value = _bicubic(x) if bicubic else _bilinear(x)
            row[i] = value if begins[i] <= place and place < ends[i] else 0.0
            totals[i] += row[i]
    # Normalize, and convert to fixed point: half a unit away from zero, then truncation by the cast to int32.
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
    """Resize `height` lines of RGB pixels along the line, and write them to out, one after another.

    The first line begins at source[at], and lines are `pitch` bytes apart. starts, weights, taps: from `_taps`.
    Eight lines are resized together, as columns; the last eight may overlap those before them. If the box or the output
    has fewer than eight lines or columns, it is resized pixel by pixel.
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
    """Resize `width` columns of RGB pixels down the columns, and write the resulting lines to out, one after another.

    The first column begins at source[at], and lines are `pitch` bytes apart. starts, weights, taps: from `_taps`.
    """
    for i in range(starts.size):
        weigh_row(out, i * width * 3, source, at + starts[i] * pitch, pitch, weights, i * taps, taps, width * 3)


@kernel
def scratch_bytes(height, width, size):
    """Return how many bytes of scratch memory `resize` needs from (height, width) to (size, size) pixels."""
    return max(height, width) * size * 3 + COLUMN * (width + size)


@kernel
def resize(source, top, left, height, width, full_height, full_width, y, x, bicubic, flip, out, scratch):
    """Resize a box of an image, and write a part of the result to `out`, mirrored left to right if `flip`.

    source: uint8 (H, W, 3), C-contiguous, not changed. top, left, height, width: the box in it, in pixels.
    full_height, full_width: the size that the whole box is resized to.
    y, x: the top left corner of the part in the resized box; pixels outside the resized box become black.
    bicubic: whether the filter is bicubic rather than bilinear. out: uint8 (h, w, 3), the size of the part.
    scratch: uint8 1-D, of at least `scratch_bytes(height, width, max(h, w))` bytes.
    """
    out_height, out_width, _ = out.shape
    pitch = source.shape[1] * 3
    pixels, at, result = source.reshape(-1), top * pitch + left * 3, out.reshape(-1)
    columns, column_weights, column_taps = _taps(width, full_width, x, out_width, bicubic, flip)
    rest, half = scratch[: COLUMN * (width + out_width)], scratch[COLUMN * (width + out_width) :]
    rows, row_weights, row_taps = _taps(height, full_height, y, out_height, bicubic, False)
    # Columns first if the height shrinks by more than twice as many pixels as the width, as in Pillow.
    if height > full_height and height - full_height > 2 * (width - full_width):
        _filter_columns(half, pixels, at, pitch, width, rows, row_weights, row_taps)
        _filter_rows(result, half, 0, width * 3, out_height, columns, column_weights, column_taps, rest)
    else:
        # Only the lines that the second filter reads need the first.
        first, last = rows[0], rows[-1] + row_taps
        at += first * pitch
        rows -= first
        _filter_rows(half, pixels, at, pitch, last - first, columns, column_weights, column_taps, rest)
        _filter_columns(result, half, 0, out_width * 3, out_width, rows, row_weights, row_taps)


def reference(image, top, left, height, width, size, bicubic=False):
    """Return the box of a uint8 (H, W, 3) image resized to (size, size) pixels by torchvision on PIL images."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    return np.asarray(F.resized_crop(Image.fromarray(image), top, left, height, width, [size, size], mode))
