"""Standard output and standard error that survive when their reader ends, as in `twoview list recipes | head -1`."""

import codecs
import io
import os
import sys
from typing import Any, TextIO


class _Kept(io.FileIO):
    """A file that discards its output after the reader of the pipe has exited.

    This also holds for every process that is started afterwards. So a command ends as if the reader still existed:
    training continues, and the exit code of `compare` tells its result.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # From now on the descriptor itself leads to /dev/null, so that new processes inherit that.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(data).cast("B"))


def outlive_readers() -> None:
    """Replace sys.stdout and sys.stderr, where these are open, by files that survive the end of their reader.

    A character that is not in their encoding, such as ± in ASCII, is written as an escape instead of being an error.
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
