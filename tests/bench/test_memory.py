"""The peak is the peak since it was asked for."""

import numpy as np

from bench.memory import PeakMemory


def test_the_peak_rises_with_what_is_held_and_starts_anew():
    before = PeakMemory()
    held = np.ones(200 * 2**20, np.uint8)
    peak = before.host_mib
    del held
    after = PeakMemory().host_mib
    assert peak > after + 150, "200 MiB were held, then freed"
    assert before.device_mib is None or before.device_mib >= 0
