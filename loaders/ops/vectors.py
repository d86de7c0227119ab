"""Helpers for the kernels that write LLVM vector instructions: addresses, shuffles, loads and stores of eight pixels.

A pixel takes four bytes in a vector: R, G, B and a zero. Eight pixels fill a vector of 32 bytes, four pixels in each
half. The halves matter because processors shuffle bytes within a half in one instruction, and across halves in several.
"""

from llvmlite import ir

I32 = ir.IntType(32)
OCTETS = ir.VectorType(ir.IntType(8), 32)  # a vector of 32 bytes
WORDS = ir.VectorType(I32, 8)  # the same vector as eight 32-bit words, one per pixel


def address(context, builder, signature, args, position, index, kind):
    """Return the address of element `index` of the array that is argument `position`, as a pointer to `kind`."""
    array = context.make_array(signature.args[position])(context, builder, value=args[position])
    return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())


def shuffle(builder, one, two, lanes):
    """Return a vector of the given lanes of two vectors; the lanes of `two` are numbered after those of `one`."""
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def load_octets(context, builder, signature, args, position, index):
    """Load the 24 bytes of eight pixels, and no others: bytes 0 to 15 in the lower half, 8 to 23 in the upper."""
    half = ir.VectorType(OCTETS.element, 16)
    low, high = (
        builder.load(
            address(context, builder, signature, args, position, builder.add(index, index.type(start)), half), align=1
        )
        for start in (0, 8)
    )
    return shuffle(builder, low, high, list(range(32)))


def pick(builder, octets, channels):
    """Return eight words from what `load_octets` gives, one per pixel.

    channels: the four bytes of each word, each the number of a channel, or None for a zero.
    """
    zeros = ir.Constant(OCTETS, [0] * 32)
    lanes = [32 if c is None else start + 3 * i + c for start in (0, 20) for i in range(4) for c in channels]
    return builder.bitcast(shuffle(builder, octets, zeros, lanes), WORDS)


def store_octets(context, builder, signature, args, position, index, words):
    """Store the lower three bytes of each of eight words, and write no others."""
    octets, nothing = builder.bitcast(words, OCTETS), ir.Constant(OCTETS, ir.Undefined)
    octets = shuffle(builder, octets, nothing, [4 * i + c for i in range(8) for c in range(3)])
    builder.store(octets, address(context, builder, signature, args, position, index, octets.type), align=1)
