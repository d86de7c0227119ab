"""Standard output and error whose reader may go away, as in `twoview list recipes | head -1`."""

import codecs
import io
import os
import sys
from typing import Any, TextIO


class _Kept(io.FileIO):
    """What is written after the reader has gone is dropped, here and in every process started from now on.

    A command then ends as it would have ended: a training goes on, and `compare` says by its exit code what it found.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(data).cast("B"))


def outlive_readers() -> None:
    """Puts such files in the place of sys.stdout and sys.stderr, where these are open.

    A character that their encoding has not, as ASCII has no ±, is written as its number: it is no reason to fail.
    """
    for name in ("stdout", "stderr"):
        old: TextIO | None = getattr(sys, name)
        if old is not None:
            old.flush()
            raw = io.BufferedWriter(_Kept(old.fileno(), "w", closefd=False))
            fails = old.errors in ("strict", "surrogateescape") and codecs.lookup(old.encoding).name != "utf-8"
            errors = "backslashreplace" if fails else old.errors
            new = io.TextIOWrapper(raw, old.encoding, errors, line_buffering=name == "stderr" or old.isatty())
            setattr(sys, name, new)
