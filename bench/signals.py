"""SIGTERM and SIGINT while something runs that must not be cut in the middle."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """Whether a signal has asked this process to end."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def obey(self) -> None:
        """Ends the process as the signal would have: KeyboardInterrupt, or exit code 143."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            sys.exit(128 + self.signal)


@contextmanager
def deferred() -> Iterator[Asked]:
    """Within the block a signal only asks, and is obeyed when the block has ended; a second one ends it at once."""
    asked = Asked()

    def note(number: int, frame: FrameType | None) -> None:
        again, asked.signal = asked.signal is not None, number
        if again:
            asked.obey()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    asked.obey()
