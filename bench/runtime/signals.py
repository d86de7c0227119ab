"""Handling of SIGTERM and SIGINT during work that must not be interrupted, and where signals would get lost."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.05  # after which a lost signal is sent again


def insist() -> None:
    """From now on, send a signal again if it arrives in a finalizer.

    Python ignores exceptions in finalizers, and so would lose the exception that the signal raises.
    """
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
    """From now on, let a signal end the process by the system's default, without a Python exception.

    An exception that is raised while Python shuts down would give a traceback and exit code 0. A signal that is ignored
    stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


class StopRequest:
    """A request by a signal to end this process. Calling the object returns whether there is a request."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def obey(self) -> None:
        """End the process as the signal would have, if there was one: by KeyboardInterrupt, or with exit code 143."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            sys.exit(128 + self.signal)


@contextmanager
def deferred() -> Iterator[StopRequest]:
    """Defer SIGTERM and SIGINT during the block, and obey them when it has ended.

    Yields a StopRequest, which tells the block whether a signal has arrived. A second signal ends the process at once.
    """
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
