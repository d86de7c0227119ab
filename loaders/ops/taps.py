"""Weighted sums of neighbouring bytes: the inner loop of resize and blur.

    out[j] = clip((half + sum over k of weights[k] * source[j + k * step]) >> 22)        0 <= k < taps

in 32-bit integers with 22 fractional bits, as PIL's resize computes it for 8-bit channels (`Resample.c`). With step 3
the taps run along a row of RGB pixels, with a step of one row they run down the columns: the same sum serves both
directions.

Numba leaves LLVM's vectoriser of straight-line code off, and its loop vectoriser cannot keep the sums of a variable
number of taps in registers, so `_weigh` states the vectors itself, as plain LLVM vectors that any processor has:
32 bytes of a line where they share their weights, and one pixel of four lines where each pixel has its own.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BITS = 22


def _weigh(width, lines=1):
    """The sum for `width` neighbouring bytes in each of `lines` lines, which lie a pitch apart.

    Reads and writes exactly those bytes and no others.
    """
    i8, i32 = ir.IntType(8), ir.IntType(32)
    lanes = width * lines
    part, narrow, wide = ir.VectorType(i8, width), ir.VectorType(i8, lanes), ir.VectorType(i32, lanes)
    words = ir.VectorType(ir.IntType(8 * width), lines)

    def constant(value):
        return ir.Constant(wide, [value] * lanes)

    @intrinsic
    def weigh(typing, out, out_at, out_pitch, source, source_at, source_pitch, step, weights, weights_at, taps):
        n = types.intp
        signature = types.void(out, n, n, source, n, n, n, weights, n, n)

        def codegen(context, builder, signature, args):
            def address(position, index, kind):
                array = context.make_array(signature.args[position])(context, builder, value=args[position])
                return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())

            def line(at, pitch, k):
                return builder.add(at, builder.mul(pitch, pitch.type(k)))

            def load(at):
                if lines == 1:
                    return builder.load(address(3, at, part), align=1)
                values = ir.Constant(words, ir.Undefined)
                for k in range(lines):
                    word = builder.load(address(3, line(at, source_pitch, k), words.element), align=1)
                    values = builder.insert_element(values, word, i32(k))
                return builder.bitcast(values, narrow)

            def store(values):
                if lines == 1:
                    builder.store(values, address(0, out_at, part), align=1)
                    return
                values = builder.bitcast(values, words)
                for k in range(lines):
                    to = address(0, line(out_at, out_pitch, k), words.element)
                    builder.store(builder.extract_element(values, i32(k)), to, align=1)

            _, out_at, out_pitch, _, source_at, source_pitch, step, _, weights_at, taps = args
            total = cgutils.alloca_once_value(builder, constant(1 << (BITS - 1)))
            with cgutils.for_range(builder, taps) as loop:
                pixels = builder.zext(load(builder.add(source_at, builder.mul(loop.index, step))), wide)
                weight = builder.load(address(7, builder.add(weights_at, loop.index), i32))
                weight = builder.insert_element(ir.Constant(wide, ir.Undefined), weight, i32(0))
                weight = builder.shuffle_vector(weight, ir.Constant(wide, ir.Undefined), constant(0))
                builder.store(builder.add(builder.load(total), builder.mul(pixels, weight)), total)
            value = builder.ashr(builder.load(total), constant(BITS))
            value = builder.select(builder.icmp_signed("<", value, constant(0)), constant(0), value)
            value = builder.select(builder.icmp_signed(">", value, constant(255)), constant(255), value)
            store(builder.trunc(value, narrow))
            return context.get_dummy_value()

        return signature, codegen

    return weigh


weigh_pixel = _weigh(3)
weigh_4_lines = _weigh(4, lines=4)
_weigh_byte = _weigh(1)
_weigh_32_bytes = _weigh(32)


@njit(cache=True, nogil=True)
def weigh_row(out, out_at, source, source_at, step, weights, weights_at, taps, count):
    """The sum for `count` neighbouring bytes with the same weights, from weights[weights_at] on. Arrays are 1-D."""
    whole = count - count % 32
    for j in range(0, whole, 32):
        _weigh_32_bytes(out, out_at + j, 0, source, source_at + j, 0, step, weights, weights_at, taps)
    for j in range(whole, count):
        _weigh_byte(out, out_at + j, 0, source, source_at + j, 0, step, weights, weights_at, taps)
