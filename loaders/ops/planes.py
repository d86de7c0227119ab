"""A block of interleaved RGB pixels as three planes of bytes, and back.

Ops that mix the channels of a pixel work on planes, where LLVM's loop vectoriser finds neighbours to load; on
interleaved pixels it gives up. A block is small enough to stay in the first-level cache between the two copies, which
are stated as LLVM vector shuffles, 32 pixels at a time.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 1024  # pixels
_LANES = 32


def _vectors(context, builder, signature, args):
    """The addresses of 32 bytes in each of the planes, then of 96 bytes of pixels, and the vectors' types."""
    i8 = ir.IntType(8)
    narrow, wide = ir.VectorType(i8, _LANES), ir.VectorType(i8, 3 * _LANES)

    def address(position, index, kind):
        array = context.make_array(signature.args[position])(context, builder, value=args[position])
        return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())

    planes = [address(c, args[3], narrow) for c in range(3)]
    return planes, address(4, args[5], wide), narrow, wide


def _order(lanes):
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


@intrinsic
def _split32(typing, r, g, b, to, pixels, at):
    signature = types.void(r, g, b, types.intp, pixels, types.intp)

    def codegen(context, builder, signature, args):
        planes, source, _, wide = _vectors(context, builder, signature, args)
        values = builder.load(source, align=1)
        for c, plane in enumerate(planes):
            picked = builder.shuffle_vector(values, ir.Constant(wide, ir.Undefined), _order(list(range(c, 96, 3))))
            builder.store(picked, plane, align=1)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _join32(typing, r, g, b, at, pixels, to):
    signature = types.void(r, g, b, types.intp, pixels, types.intp)

    def codegen(context, builder, signature, args):
        planes, target, narrow, _ = _vectors(context, builder, signature, args)
        red, green, blue = (builder.load(plane, align=1) for plane in planes)
        two = builder.shuffle_vector(red, green, _order(list(range(64))))
        four = builder.shuffle_vector(blue, ir.Constant(narrow, ir.Undefined), _order(list(range(64))))
        order = [c * 32 + i for i in range(32) for c in range(3)]
        builder.store(builder.shuffle_vector(two, four, _order(order)), target, align=1)
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True)
def split(r, g, b, pixels, at, count):
    """Copy `count` pixels, the first at pixels[at], to the first `count` places of the planes. uint8, all 1-D."""
    whole = count - count % _LANES
    for i in range(0, whole, _LANES):
        _split32(r, g, b, i, pixels, at + 3 * i)  # type: ignore[call-arg]
    for i in range(whole, count):
        r[i], g[i], b[i] = pixels[at + 3 * i], pixels[at + 3 * i + 1], pixels[at + 3 * i + 2]


@njit(cache=True, nogil=True)
def join(r, g, b, pixels, to, count):
    """Copy the first `count` places of the planes to `count` pixels, the first at pixels[to]. uint8, all 1-D."""
    whole = count - count % _LANES
    for i in range(0, whole, _LANES):
        _join32(r, g, b, i, pixels, to + 3 * i)  # type: ignore[call-arg]
    for i in range(whole, count):
        pixels[to + 3 * i], pixels[to + 3 * i + 1], pixels[to + 3 * i + 2] = r[i], g[i], b[i]
