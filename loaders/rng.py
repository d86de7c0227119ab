"""Counter-based random numbers: every draw is a pure function of (seed, epoch, sample, view, op, draw).

The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
The key is the 64-bit seed and the counter is (sample, epoch, view << 16 | op, draw). So there is no state to share,
advance or restore, and the number of threads, batches, ranks or restarts cannot change a draw.
"""

import math

import numpy as np

from twoview.loaders.kernels import kernel

# Values of `op`, which tell what a number is drawn for. Each augmentation has its value in its own file (`STREAM`).
# These values determine the pixels, so new ones are appended and none is ever changed.
ORDER = 6
INIT = 7
MASK = 8
LATENT = 9
NOISE = 10
DICTIONARY = 11

_WORD = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@kernel
def philox(key, c0, c1, c2, c3):
    """Return Philox4x32-10's four 32-bit words (as uint64) for a 64-bit key and a counter of four 32-bit words."""
    k0 = np.uint64(key) & _WORD
    k1 = np.uint64(key) >> _HALF
    x0, x1, x2, x3 = np.uint64(c0) & _WORD, np.uint64(c1) & _WORD, np.uint64(c2) & _WORD, np.uint64(c3) & _WORD
    # Ten rounds. Each multiplies two of the words (32 x 32 bits), mixes the halves of the products with the key and the
    # other words, and adds constants to the key.
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * x0
        p1 = np.uint64(0xCD9E8D57) * x2
        x0, x1, x2, x3 = (p1 >> _HALF) ^ x1 ^ k0, p1 & _WORD, (p0 >> _HALF) ^ x3 ^ k1, p0 & _WORD
        k0 = (k0 + np.uint64(0x9E3779B9)) & _WORD
        k1 = (k1 + np.uint64(0xBB67AE85)) & _WORD
    return x0, x1, x2, x3


@kernel
def uniform(seed, epoch, sample, view, op, draw):
    """Return a random float64, uniformly distributed in [0, 1), with 53 random bits.

    seed: 64 bits. epoch, sample, draw: only the low 32 bits are used. view, op: must be below 65,536.
    """
    x0, x1, _, _ = philox(seed, sample, epoch, (view << 16) | op, draw)
    # The upper 27 bits of one word and the upper 26 of another, divided by 2^53.
    return np.float64((x0 >> np.uint64(5)) * np.uint64(1 << 26) + (x1 >> np.uint64(6))) / 9007199254740992.0


@kernel
def uniforms(seed, epoch, samples, view, op, draw):
    """Return `uniform` for each of the sample numbers in `samples`, an integer array (n,), as float64 (n,)."""
    out = np.empty(samples.size, np.float64)
    for i in range(samples.size):
        out[i] = uniform(seed, epoch, samples[i], view, op, draw)
    return out


@kernel
def words(seed, epoch, samples, view, op, count):
    """Return `count` random 32-bit words for each of the sample numbers in `samples` (n,), as uint32 (n, count)."""
    out = np.empty((samples.size, count), np.uint32)
    for i in range(samples.size):
        for start in range(0, count, 4):
            four = philox(seed, samples[i], epoch, (view << 16) | op, start >> 2)
            for j in range(min(4, count - start)):
                out[i, start + j] = four[j]
    return out


@kernel
def normals(seed, epoch, samples, view, op, count):
    """Return `count` standard normal numbers for each of the sample numbers in `samples` (n,), as float32 (n, count).

    They are the Box-Muller transform of the random words that `words` returns. No absolute value exceeds 6.8.
    """
    out = np.empty((samples.size, count), np.float32)
    for i in range(samples.size):
        for start in range(0, count, 4):
            four = philox(seed, samples[i], epoch, (view << 16) | op, start >> 2)
            # Two words u, v give two numbers, sqrt(-2 log u) cos(2 pi v) and sqrt(-2 log u) sin(2 pi v).
            for j in range(0, min(4, count - start), 2):
                radius = math.sqrt(-2 * math.log((four[j] + 0.5) / 4294967296.0))
                angle = 2 * math.pi * four[j + 1] / 4294967296.0
                out[i, start + j] = radius * math.cos(angle)
                if start + j + 1 < count:
                    out[i, start + j + 1] = radius * math.sin(angle)
    return out
