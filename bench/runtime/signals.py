"""SIGTERM and SIGINT while something runs that must not be cut in the middle, and where they would get lost."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.05


def insist() -> None:
    """From here on a signal that falls into a finalizer, which would swallow what it raises, comes once more."""
    otherwise = sys.unraisablehook

    def hook(swallowed: "sys.UnraisableHookArgs") -> None:
        if not issubclass(swallowed.exc_type, KeyboardInterrupt | SystemExit):
            otherwise(swallowed)
            return
        number = signal.SIGINT if issubclass(swallowed.exc_type, KeyboardInterrupt) else signal.SIGTERM
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook


def end_at_once() -> None:
    """From here on a signal ends the process by itself: what one raises while Python shuts down would be a traceback
    and exit code 0. A signal that is ignored stays so.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


class StopRequest:
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
def deferred() -> Iterator[StopRequest]:
    """Within the block a signal only asks, and is obeyed when the block has ended; a second one ends it at once."""
    asked = StopRequest()

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
