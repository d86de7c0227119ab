"""Weighted sums of neighboring bytes: the inner loop of resize and blur.

    out[j] = clip((half + sum over k of weights[k] * source[j + k * step]) >> 22)        0 <= k < taps

in 32-bit integers with 22 fractional bits, as PIL's resize computes it for 8-bit channels (`Resample.c`). With a step
of 3 the taps run along a row of RGB pixels, with a step of one row they run down the columns, so the same sum serves
both directions.

Numba disables LLVM's vectorizer for straight-line code, and the loop vectorizer cannot keep the sums of a variable
number of taps in registers. `_weigh` therefore writes the vector instructions itself, as generic LLVM vectors, which
work on any processor.
"""

from typing import TYPE_CHECKING

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from twoview.loaders.kernels import kernel
from twoview.loaders.ops.vectors import address

if TYPE_CHECKING:
    from torch import Tensor

BITS = 22  # fractional bits of the weights


def _weigh(width):
    """Return an intrinsic that computes the sum for `width` neighboring bytes.

    It reads and writes exactly those bytes and no others.
    """
    i32 = ir.IntType(32)
    narrow, wide = ir.VectorType(ir.IntType(8), width), ir.VectorType(i32, width)

    def constant(value):
        return ir.Constant(wide, [value] * width)

    @intrinsic
    def weigh(typing, out, out_at, source, source_at, step, weights, weights_at, taps):
        n = types.intp
        signature = types.void(out, n, source, n, n, weights, n, n)

        def codegen(context, builder, signature, args):
            def place(position, index, kind):
                return address(context, builder, signature, args, position, index, kind)

            _, out_at, _, source_at, step, _, weights_at, taps = args
            # Begin with one half in fixed point, so that the shift below rounds to the nearest.
            total = cgutils.alloca_once_value(builder, constant(1 << (BITS - 1)))
            with cgutils.for_range(builder, taps) as loop:
                at = builder.add(source_at, builder.mul(loop.index, step))
                pixels = builder.zext(builder.load(place(2, at, narrow), align=1), wide)
                weight = builder.load(place(5, builder.add(weights_at, loop.index), i32))
                weight = builder.insert_element(ir.Constant(wide, ir.Undefined), weight, i32(0))
                weight = builder.shuffle_vector(weight, ir.Constant(wide, ir.Undefined), constant(0))
                builder.store(builder.add(builder.load(total), builder.mul(pixels, weight)), total)
            value = builder.ashr(builder.load(total), constant(BITS))
            value = builder.select(builder.icmp_signed("<", value, constant(0)), constant(0), value)
            value = builder.select(builder.icmp_signed(">", value, constant(255)), constant(255), value)
            builder.store(builder.trunc(value, narrow), place(0, out_at, narrow), align=1)
            return context.get_dummy_value()

        return signature, codegen

    return weigh


weigh_pixel = _weigh(3)
weigh_32_bytes = _weigh(32)
_weigh_byte = _weigh(1)


@kernel
def weigh_row(out, out_at, source, source_at, step, weights, weights_at, taps, count):
    """Compute the sum for `count` neighboring bytes, all with the weights from weights[weights_at] on.

    out[out_at + j] is the sum over source[source_at + j + k * step] for k < taps. All arrays are 1-D.
    """
    whole = count - count % 32
    for j in range(0, whole, 32):
        weigh_32_bytes(out, out_at + j, source, source_at + j, step, weights, weights_at, taps)
    for j in range(whole, count):
        _weigh_byte(out, out_at + j, source, source_at + j, step, weights, weights_at, taps)


def weigh_images(images: "Tensor", places: "Tensor", axis: int, index: "Tensor", weights: "Tensor") -> "Tensor":
    """Return images filtered along one axis by torch: each output pixel is a weighted sum of pixels along that axis.

    images: uint8 (N, H, W, 3). places: (B,), the numbers of the images to filter. axis: 1 or 2.
    index: (B or 1, out, taps), the positions along the axis that are summed. weights: int32 (B, out or 1, taps), with
    22 fractional bits. Returns uint8 (B, ...), with `out` pixels along the axis.
    """
    lines, places = images.movedim(axis, 1), places[:, None]
    total = lines[places, index[..., 0]].int() * weights[..., 0, None, None] + (1 << (BITS - 1))
    for k in range(1, weights.shape[-1]):
        total = total + lines[places, index[..., k]].int() * weights[..., k, None, None]
    return (total >> BITS).clamp(0, 255).byte().movedim(1, axis)
