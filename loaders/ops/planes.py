"""Copy a block of interleaved RGB pixels to three float32 planes, and back.

Ops that mix the channels of a pixel work on planes, where LLVM's loop vectorizer can load neighboring values; on
interleaved pixels it gives up. A level is a whole number from 0 to 255 stored as float32, so that the steps of an op
pass it on without conversion. A block is small enough for its planes to stay in the first-level cache between the two
copies, which are written as LLVM vector instructions on eight pixels at a time.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from twoview.loaders.kernels import kernel
from twoview.loaders.ops.vectors import WORDS, address, load_octets, pick, store_octets

BLOCK = 1024  # pixels of a block
_LANES = 8  # pixels that are copied at a time

_LEVELS = ir.VectorType(ir.FloatType(), _LANES)


@intrinsic
def _split8(typing, r, g, b, to, pixels, at):
    """Copy eight pixels, from pixels[at] on, to the planes, from place `to` on."""
    signature = types.void(r, g, b, types.intp, pixels, types.intp)

    def codegen(context, builder, signature, args):
        octets = load_octets(context, builder, signature, args, 4, args[5])
        for c in range(3):
            levels = builder.sitofp(pick(builder, octets, (c, None, None, None)), _LEVELS)
            builder.store(levels, address(context, builder, signature, args, c, args[3], _LEVELS), align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _join8(typing, r, g, b, at, pixels, to):
    """Copy eight places of the planes, from `at` on, to pixels[to] and after."""
    signature = types.void(r, g, b, types.intp, pixels, types.intp)

    def codegen(context, builder, signature, args):
        words = ir.Constant(WORDS, [0] * _LANES)
        for c in range(3):
            levels = builder.load(address(context, builder, signature, args, c, args[3], _LEVELS), align=4)
            shift = ir.Constant(WORDS, [8 * c] * _LANES)
            words = builder.or_(words, builder.shl(builder.fptosi(levels, WORDS), shift))
        store_octets(context, builder, signature, args, 4, args[5], words)
        return context.get_dummy_value()

    return signature, codegen


@kernel
def split(r, g, b, pixels, at, count):
    """Copy `count` pixels, the first at pixels[at], to the first `count` places of the planes. All arrays are 1-D."""
    whole = count - count % _LANES
    for i in range(0, whole, _LANES):
        _split8(r, g, b, i, pixels, at + 3 * i)  # type: ignore[call-arg]
    for i in range(whole, count):
        r[i], g[i], b[i] = pixels[at + 3 * i], pixels[at + 3 * i + 1], pixels[at + 3 * i + 2]


@kernel
def join(r, g, b, pixels, to, count):
    """Copy the first `count` places of the planes to `count` pixels, the first at pixels[to]. All arrays are 1-D."""
    whole = count - count % _LANES
    for i in range(0, whole, _LANES):
        _join8(r, g, b, i, pixels, to + 3 * i)  # type: ignore[call-arg]
    for i in range(whole, count):
        pixels[to + 3 * i] = np.int32(r[i])
        pixels[to + 3 * i + 1] = np.int32(g[i])
        pixels[to + 3 * i + 2] = np.int32(b[i])
