"""Where the turbojpeg library is. Nothing but the standard library is imported, so that this can be asked anywhere."""

import ctypes
import ctypes.util

SONAME = "libturbojpeg.so.0"
HOW_TO_GET = "Debian: apt install libturbojpeg0"


def library() -> str:
    """The name under which the dynamic loader finds it: the system's, or else one in a folder of LD_LIBRARY_PATH.

    `find_library` does not look into the latter. ImportError if it is in neither.
    """
    for name in (ctypes.util.find_library("turbojpeg"), SONAME):
        if name and _loads(name):
            return name
    raise ImportError(f"twoview decodes JPEG with libturbojpeg, which is not installed ({HOW_TO_GET})")


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
