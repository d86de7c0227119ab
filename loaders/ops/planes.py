"""A block of interleaved RGB pixels as three planes of float32, and back.

The ops that mix the channels of a pixel work on planes, where LLVM's loop vectoriser finds neighbours to load; on
interleaved pixels it gives up. A level is a whole number from 0 to 255 in float32, so that the steps of an op's sweep
over a block pass it on without a conversion. A block's planes stay in the first-level cache between the two copies,
which are stated as LLVM vectors, 32 pixels at a time.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 1024  # pixels
_LANES = 8

_I8, _I32 = ir.IntType(8), ir.IntType(32)
_LEVELS, _WORDS = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(_I32, _LANES)
_HALF, _WHOLE = ir.VectorType(_I8, 16), ir.VectorType(_I8, 32)


def _address(context, builder, signature, args, position, index, kind):
    array = context.make_array(signature.args[position])(context, builder, value=args[position])
    return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())


def _shuffle(builder, one, two, lanes):
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


@intrinsic
def _split8(typing, r, g, b, to, pixels, at):
    signature = types.void(r, g, b, types.intp, pixels, types.intp)

    def codegen(context, builder, signature, args):
        def half(start):
            index = builder.add(args[5], args[5].type(start))
            return builder.load(_address(context, builder, signature, args, 4, index, _HALF), align=1)

        # Bytes 0 to 15 and 8 to 23: four pixels in either half, and no shuffle that crosses the halves.
        octets = _shuffle(builder, half(0), half(8), list(range(32)))
        zeros = ir.Constant(_WHOLE, [0] * 32)
        for c in range(3):
            picks = [start + 3 * i + c for start in (0, 20) for i in range(4)]
            words = _shuffle(builder, octets, zeros, [lane for pick in picks for lane in (pick, 32, 32, 32)])
            levels = builder.sitofp(builder.bitcast(words, _WORDS), _LEVELS)
            builder.store(levels, _address(context, builder, signature, args, c, args[3], _LEVELS), align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _join8(typing, r, g, b, at, pixels, to):
    signature = types.void(r, g, b, types.intp, pixels, types.intp)

    def codegen(context, builder, signature, args):
        words = ir.Constant(_WORDS, [0] * 8)
        for c in range(3):
            levels = builder.load(_address(context, builder, signature, args, c, args[3], _LEVELS), align=4)
            level = builder.fptosi(levels, _WORDS)
            words = builder.or_(words, builder.shl(level, ir.Constant(_WORDS, [8 * c] * 8)))
        octets = builder.bitcast(words, _WHOLE)
        order = [start + 4 * i + c for start in (0, 16) for i in range(4) for c in range(3)]
        octets = _shuffle(builder, octets, ir.Constant(_WHOLE, ir.Undefined), order)
        builder.store(octets, _address(context, builder, signature, args, 4, args[5], octets.type), align=1)
        return context.get_dummy_value()

    return signature, codegen


@njit(cache=True, nogil=True)
def split(r, g, b, pixels, at, count):
    """Copy `count` pixels, the first at pixels[at], to the first `count` places of the planes. All are 1-D."""
    whole = count - count % _LANES
    for i in range(0, whole, _LANES):
        _split8(r, g, b, i, pixels, at + 3 * i)  # type: ignore[call-arg]
    for i in range(whole, count):
        r[i], g[i], b[i] = pixels[at + 3 * i], pixels[at + 3 * i + 1], pixels[at + 3 * i + 2]


@njit(cache=True, nogil=True)
def join(r, g, b, pixels, to, count):
    """Copy the first `count` places of the planes to `count` pixels, the first at pixels[to]. All are 1-D."""
    whole = count - count % _LANES
    for i in range(0, whole, _LANES):
        _join8(r, g, b, i, pixels, to + 3 * i)  # type: ignore[call-arg]
    for i in range(whole, count):
        pixels[to + 3 * i] = np.int32(r[i])
        pixels[to + 3 * i + 1] = np.int32(g[i])
        pixels[to + 3 * i + 2] = np.int32(b[i])
