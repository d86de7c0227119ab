"""Copy eight lines (rows) of RGB pixels to columns, and back.

A column is 32 bytes: one pixel from each of the eight lines, four bytes per pixel. Stored so, horizontal neighbors lie
one vector apart, and a weighted sum along a line is a sum of whole vectors (`taps.py`). The copies are 8 x 8
transpositions, written as LLVM vector instructions.
"""

from numba import types
from numba.extending import intrinsic

from twoview.loaders.kernels import kernel
from twoview.loaders.ops.vectors import WORDS, address, load_octets, pick, shuffle, store_octets

LINES = 8
COLUMN = 4 * LINES  # bytes of a column


def _transpose(builder, rows):
    """Transpose eight vectors of eight words: word i of vector k becomes word k of vector i."""
    # Three rounds swap words between vectors that are 1, 2 and 4 apart.
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
    """Copy 8 x 8 pixels, in lines `pitch` bytes apart from source[at] on, to eight columns from columns[to] on."""
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
    """Copy eight columns, from columns[at] on, to 8 x 8 pixels in lines `pitch` bytes apart from out[to] on."""
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
    """Copy eight lines of `width` >= 8 pixels to `width` columns.

    The first line begins at source[at], and lines are `pitch` bytes apart. Both arrays are uint8, 1-D.
    """
    for x in range(0, width - 7, 8):
        _to_columns8(columns, COLUMN * x, source, at + 3 * x, pitch)  # type: ignore[call-arg]
    # The last eight pixels, which may overlap those before: the width need not be a multiple of eight.
    _to_columns8(columns, COLUMN * (width - 8), source, at + 3 * (width - 8), pitch)  # type: ignore[call-arg]


@kernel
def from_columns(out, to, pitch, columns, width):
    """Copy `width` >= 8 columns to eight lines; the inverse of `to_columns`.

    The first line begins at out[to], and lines are `pitch` bytes apart. Both arrays are uint8, 1-D.
    """
    for x in range(0, width - 7, 8):
        _from_columns8(out, to + 3 * x, pitch, columns, COLUMN * x)  # type: ignore[call-arg]
    _from_columns8(out, to + 3 * (width - 8), pitch, columns, COLUMN * (width - 8))  # type: ignore[call-arg]
