"""Counter-based random numbers: every draw is a pure function of (seed, epoch, sample, view, op, draw).

The generator is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
The key is the 64-bit seed and the counter is (sample, epoch, view << 16 | op, draw), so there is no state to share,
to advance or to restore: threads, batches, ranks and restarts cannot change a number.
"""

import math

import numpy as np

from twoview.loaders.kernels import kernel

# What a number is drawn for. An op's number is in its own file (`STREAM`). The values are part of the definition of the
# pixels: append, never renumber.
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
    """Philox4x32-10: four 32-bit words (as uint64) for a 64-bit key and a counter of four 32-bit words."""
    k0 = np.uint64(key) & _WORD
    k1 = np.uint64(key) >> _HALF
    x0, x1, x2, x3 = np.uint64(c0) & _WORD, np.uint64(c1) & _WORD, np.uint64(c2) & _WORD, np.uint64(c3) & _WORD
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * x0
        p1 = np.uint64(0xCD9E8D57) * x2
        x0, x1, x2, x3 = (p1 >> _HALF) ^ x1 ^ k0, p1 & _WORD, (p0 >> _HALF) ^ x3 ^ k1, p0 & _WORD
        k0 = (k0 + np.uint64(0x9E3779B9)) & _WORD
        k1 = (k1 + np.uint64(0xBB67AE85)) & _WORD
    return x0, x1, x2, x3


@kernel
def uniform(seed, epoch, sample, view, op, draw):
    """One float64, uniform in [0, 1) with 53 random bits.

    seed: 64 bits. epoch, sample, draw: their low 32 bits count. view, op: below 65,536.
    """
    x0, x1, _, _ = philox(seed, sample, epoch, (view << 16) | op, draw)
    return np.float64((x0 >> np.uint64(5)) * np.uint64(1 << 26) + (x1 >> np.uint64(6))) / 9007199254740992.0


@kernel
def uniforms(seed, epoch, samples, view, op, draw):
    """float64 (n,): `uniform` of each of the sample numbers in `samples`, an integer array (n,)."""
    out = np.empty(samples.size, np.float64)
    for i in range(samples.size):
        out[i] = uniform(seed, epoch, samples[i], view, op, draw)
    return out


@kernel
def words(seed, epoch, samples, view, op, count):
    """uint32 (n, count): `count` random words for each of the sample numbers in `samples`, an integer array (n,)."""
    out = np.empty((samples.size, count), np.uint32)
    for i in range(samples.size):
        for start in range(0, count, 4):
            four = philox(seed, samples[i], epoch, (view << 16) | op, start >> 2)
            for j in range(min(4, count - start)):
                out[i, start + j] = four[j]
    return out


@kernel
def normals(seed, epoch, samples, view, op, count):
    """float32 (n, count): standard normal numbers made of `words` by Box and Muller's transform, none beyond 6.8."""
    out = np.empty((samples.size, count), np.float32)
    for i in range(samples.size):
        for start in range(0, count, 4):
            four = philox(seed, samples[i], epoch, (view << 16) | op, start >> 2)
            for j in range(0, min(4, count - start), 2):
                radius = math.sqrt(-2 * math.log((four[j] + 0.5) / 4294967296.0))
                angle = 2 * math.pi * four[j + 1] / 4294967296.0
                out[i, start + j] = radius * math.cos(angle)
                if start + j + 1 < count:
                    out[i, start + j + 1] = radius * math.sin(angle)
    return out
