"""Eight lines of RGB pixels as columns, and back: a column is 32 bytes, one pixel of each line, four bytes a pixel.

In columns the neighbors of a pixel lie a vector apart, and a sum along a row is a sum of whole vectors (`taps.py`).
The copies are 8 x 8 transpositions, stated as LLVM vectors.
"""

from numba import types
from numba.extending import intrinsic

from twoview.loaders.kernels import kernel
from twoview.loaders.ops.vectors import WORDS, address, load_octets, pick, shuffle, store_octets

LINES = 8
COLUMN = 4 * LINES  # bytes


def _transpose(builder, rows):
    """Eight vectors of eight words: word i of vector k becomes word k of vector i."""
    for distance in (1, 2, 4):
        mixed = list(rows)
        for k in range(8):
            if k & distance == 0:
                one, two = rows[k], rows[k + distance]
                low = [i if i & distance == 0 else 8 + i - distance for i in range(8)]
                mixed[k] = shuffle(builder, one, two, low)
                mixed[k + distance] = shuffle(builder, one, two, [lane + distance for lane in low])
        rows = mixed
    return rows


@intrinsic
def _to_columns8(typing, columns, to, source, at, pitch):
    n = types.intp
    signature = types.void(columns, n, source, n, n)

    def codegen(context, builder, signature, args):
        _, to, _, at, pitch = args
        rows = []
        for _ in range(LINES):
            rows.append(pick(builder, load_octets(context, builder, signature, args, 2, at), (0, 1, 2, None)))
            at = builder.add(at, pitch)
        for k, column in enumerate(_transpose(builder, rows)):
            index = builder.add(to, to.type(k * COLUMN))
            builder.store(column, address(context, builder, signature, args, 0, index, WORDS), align=1)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _from_columns8(typing, out, to, pitch, columns, at):
    n = types.intp
    signature = types.void(out, n, n, columns, n)

    def codegen(context, builder, signature, args):
        _, to, pitch, _, at = args
        columns = []
        for k in range(8):
            index = builder.add(at, at.type(k * COLUMN))
            columns.append(builder.load(address(context, builder, signature, args, 3, index, WORDS), align=1))
        for row in _transpose(builder, columns):
            store_octets(context, builder, signature, args, 0, to, row)
            to = builder.add(to, pitch)
        return context.get_dummy_value()

    return signature, codegen


@kernel
def to_columns(columns, source, at, pitch, width):
    """Copy eight lines of `width` >= 8 pixels, the first at source[at], `pitch` bytes apart. Arrays are uint8, 1-D."""
    for x in range(0, width - 7, 8):
        _to_columns8(columns, COLUMN * x, source, at + 3 * x, pitch)  # type: ignore[call-arg]
    _to_columns8(columns, COLUMN * (width - 8), source, at + 3 * (width - 8), pitch)  # type: ignore[call-arg]


@kernel
def from_columns(out, to, pitch, columns, width):
    """Copy `width` >= 8 columns to eight lines, the first at out[to], `pitch` bytes apart. Arrays are uint8, 1-D."""
    for x in range(0, width - 7, 8):
        _from_columns8(out, to + 3 * x, pitch, columns, COLUMN * x)  # type: ignore[call-arg]
    _from_columns8(out, to + 3 * (width - 8), pitch, columns, COLUMN * (width - 8))  # type: ignore[call-arg]
