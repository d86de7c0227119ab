"""Finds the turbojpeg library. Only the standard library is imported, so that any part of the project can use this."""

import ctypes
import ctypes.util

SONAME = "libturbojpeg.so.0"
HOW_TO_GET = "Debian: apt install libturbojpeg0"


def library() -> str:
    """Return the name by which the dynamic linker finds libturbojpeg, installed in the system or in LD_LIBRARY_PATH.

    `find_library` does not search the folders of LD_LIBRARY_PATH, so the library's own name is tried, too.
    Raises ImportError if it is in neither place.
    """
    for name in (ctypes.util.find_library("turbojpeg"), SONAME):
        if name and _loads(name):
            return name
    raise ImportError(f"twoview decodes JPEG with libturbojpeg, which is not installed ({HOW_TO_GET})")


def _loads(name: str) -> bool:
    """Return whether the dynamic linker finds and loads a library with this name."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
