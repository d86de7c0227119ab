"""What the kernels that state LLVM vectors themselves have in common: addresses, shuffles, eight pixels of a line.

A pixel takes four bytes in a vector, R, G, B and a zero, so that eight of them fill 32 bytes, four a half: processors
shuffle bytes within the halves of a vector in one instruction, and across them in several.
"""

from llvmlite import ir

I32 = ir.IntType(32)
OCTETS = ir.VectorType(ir.IntType(8), 32)
WORDS = ir.VectorType(I32, 8)


def address(context, builder, signature, args, position, index, kind):
    """The address of element `index` of the array that is argument `position`, as a pointer to `kind`."""
    array = context.make_array(signature.args[position])(context, builder, value=args[position])
    return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())


def shuffle(builder, one, two, lanes):
    """The given lanes of two vectors, those of `two` counted on from those of `one`."""
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def load_octets(context, builder, signature, args, position, index):
    """The 24 bytes of eight pixels: bytes 0 to 15, then bytes 8 to 23. Reads no others."""
    half = ir.VectorType(OCTETS.element, 16)
    low, high = (
        builder.load(
            address(context, builder, signature, args, position, builder.add(index, index.type(start)), half), align=1
        )
        for start in (0, 8)
    )
    return shuffle(builder, low, high, list(range(32)))


def pick(builder, octets, channels):
    """Eight words from `load_octets`, one a pixel; their bytes are the pixel's `channels`, None for a zero."""
    zeros = ir.Constant(OCTETS, [0] * 32)
    lanes = [32 if c is None else start + 3 * i + c for start in (0, 20) for i in range(4) for c in channels]
    return builder.bitcast(shuffle(builder, octets, zeros, lanes), WORDS)


def store_octets(context, builder, signature, args, position, index, words):
    """Write the lower three bytes of each of eight words. Writes no others."""
    octets, nothing = builder.bitcast(words, OCTETS), ir.Constant(OCTETS, ir.Undefined)
    octets = shuffle(builder, octets, nothing, [4 * i + c for i in range(8) for c in range(3)])
    builder.store(octets, address(context, builder, signature, args, position, index, octets.type), align=1)
