"""A signal ends a command at any point, with its exit code and without a traceback."""

import signal
import subprocess
import sys

import pytest

# A program with the handlers of the command line, which gets a signal in the requested place.
PROGRAM = """
import atexit, os, signal, sys, time, weakref
from twoview.bench.runtime import signals

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
signal.signal(signal.SIGINT, signal.default_int_handler)
number, place = int(sys.argv[1]), sys.argv[2]

def finalizer(*_):
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass

class Thing: ...

def work():
    signals.insist()
    thing = Thing()
    weakref.finalize(thing, finalizer)
    del thing
    for _ in range(1000):
        time.sleep(0.01)

if place == "finalizer":
    try:
        work()
    except KeyboardInterrupt:
        sys.exit(130)
else:
    atexit.register(finalizer)
    signals.end_at_once()
print("to the end", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["finalizer", "shutdown"])
def test_a_signal_is_not_swallowed(number, place):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number)), place], capture_output=True, text=True, timeout=60
    )
    at_once = -number if place == "shutdown" else 128 + number
    assert (done.returncode, done.stderr) == (at_once, "")
    assert ("to the end" in done.stdout) == (place == "shutdown")


IGNORED = """
import os, signal
from twoview.bench.runtime import signals

signal.signal(signal.SIGINT, signal.SIG_IGN)
signals.end_at_once()
os.kill(os.getpid(), signal.SIGINT)
"""


def test_an_ignored_signal_stays_ignored():
    """As in a program that a shell has started in the background."""
    assert subprocess.run([sys.executable, "-c", IGNORED]).returncode == 0


OTHERS = """
from twoview.bench.runtime import signals

class Thing:
    def __del__(self):
        raise KeyError("a fault of its own")

signals.insist()
Thing()
"""


def test_other_errors_in_finalizers_are_still_reported():
    done = subprocess.run([sys.executable, "-c", OTHERS], capture_output=True, text=True)
    assert done.returncode == 0 and "a fault of its own" in done.stderr
