"""XXH64 against the reference implementation."""

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from twoview.loaders.checksum import xxh64


@given(content=st.binary(max_size=200), before=st.integers(0, 9))
def test_it_is_xxh64(content, before):
    stored = np.frombuffer(bytes(before) + content + b"after", np.uint8)
    assert int(xxh64(stored, before, len(content))) == xxhash.xxh64(content).intdigest()
