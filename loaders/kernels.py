"""Compiling kernels with Numba, and where the compiled code is kept.

Numba keeps it in NUMBA_CACHE_DIR, beside the source, or in the user's cache folder, whichever can be written first, and
looks whether the source file of the kernel has changed, but not those of the kernels that it calls: after an update it
would go on with pieces of the old code. Here the sources of all kernels count for each of them. Where no folder can be
written, every process compiles for itself.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core import caching

if config.DISABLE_JIT:  # type: ignore[attr-defined]  # which leaves nothing of libturbojpeg to call
    raise ImportError("the loader's kernels must be compiled: unset NUMBA_DISABLE_JIT")

LOADERS = Path(__file__).parent
# Of this package, besides those of ops: the files with kernels in them, and with what kernels are made for, the ops in
# their order (`views`) and the sample table (`beton`).
FILES = ("rng", "checksum", "decode", "masks", "render", "views", "beton")


def sources() -> list[Path]:
    """The source files that the compiled code of this package depends on."""
    return [*(LOADERS / f"{name}.py" for name in FILES), *sorted(LOADERS.glob("ops/*.py"))]


_STAMP = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources())).hexdigest()


class _OfAllSources:
    """Of one of Numba's locators: what the compiled code was made of."""

    def get_source_stamp(self) -> tuple[Any, str]:
        return super().get_source_stamp(), _STAMP  # type: ignore[misc]  # of the class beside it


class _Given(_OfAllSources, caching.UserProvidedCacheLocator):
    """In NUMBA_CACHE_DIR."""


class _Beside(_OfAllSources, caching.InTreeCacheLocator):
    """In __pycache__ beside the source."""


class _OfTheUser(_OfAllSources, caching.UserWideCacheLocator):
    """In the user's cache folder."""


class _Content(caching.CompileResultCacheImpl):
    _locator_classes = [_Given, _Beside, _OfTheUser]  # noqa: RUF012  # as in the class above


class _Cache(caching.FunctionCache):
    _impl_class = _Content


def kernel(function: Callable[..., Any] | None = None, *, kept: bool = True, **options: Any) -> Any:
    """A decorator: compiles the function with `numba.njit`, without the GIL, and keeps the code. options: njit's.

    kept: False for a function inside a function, which no other process would find again. Its code is in that of the
        kernels that call it.
    """
    if function is None:
        return partial(kernel, kept=kept, **options)
    dispatcher = njit(nogil=True, **options)(function)
    if not kept:
        return dispatcher
    with suppress(RuntimeError):  # no folder can be written: the dispatcher stays without a cache
        dispatcher._cache = _Cache(function)
    return dispatcher
