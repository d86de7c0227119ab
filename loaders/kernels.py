"""Compiles kernels with Numba and caches the compiled code on disk.

Numba caches in the first writable folder of NUMBA_CACHE_DIR, the folder of the source, and the user's cache folder. It
recompiles a kernel if the kernel's own source file has changed, but not if a kernel that it calls has changed, so after
an update it would keep using parts of the old code. Here, a change in the source of any kernel recompiles all of them.
If no folder is writable, every process compiles for itself.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core import caching

if config.DISABLE_JIT:  # type: ignore[attr-defined]  # uncompiled kernels cannot call libturbojpeg
    raise ImportError("the loader's kernels must be compiled: unset NUMBA_DISABLE_JIT")

LOADERS = Path(__file__).parent
# The files of this package, besides those in ops/, that contain kernels or that compiled kernels depend on: `views`
# has the order of the ops, `beton` the sample table.
FILES = ("rng", "checksum", "decode", "masks", "render", "views", "beton", "sources/tar")


def sources() -> list[Path]:
    """Return the source files that the compiled code of this package depends on."""
    return [*(LOADERS / f"{name}.py" for name in FILES), *sorted(LOADERS.glob("ops/*.py"))]


_STAMP = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources())).hexdigest()


class _OfAllSources:
    """A mixin for Numba's cache locators: cached code is valid only if it was compiled from the present sources."""

    def get_source_stamp(self) -> tuple[Any, str]:
        return super().get_source_stamp(), _STAMP  # type: ignore[misc]  # a method of the locator it is mixed into


class _Given(_OfAllSources, caching.UserProvidedCacheLocator):
    """Caches in NUMBA_CACHE_DIR."""


class _Beside(_OfAllSources, caching.InTreeCacheLocator):
    """Caches in __pycache__ next to the source."""


class _OfTheUser(_OfAllSources, caching.UserWideCacheLocator):
    """Caches in the user's cache folder."""


class _Content(caching.CompileResultCacheImpl):
    """Numba's storage of compiled code, which tries the locators above in their order."""

    _locator_classes = [_Given, _Beside, _OfTheUser]  # noqa: RUF012  # a plain list as in the base class


class _Cache(caching.FunctionCache):
    """Numba's cache of one function, with this storage."""

    _impl_class = _Content


def kernel(function: Callable[..., Any] | None = None, *, kept: bool = True, **options: Any) -> Any:
    """Compile a function with `numba.njit`, running without the GIL, and cache the code on disk. Used as a decorator.

    kept: False for a function defined inside a function, which no other process could find again. Its code is cached
        with the kernels that call it.
    options: passed on to njit.
    """
    if function is None:
        return partial(kernel, kept=kept, **options)
    dispatcher = njit(nogil=True, **options)(function)
    if not kept:
        return dispatcher
    with suppress(RuntimeError):  # raised if no folder is writable: the function then stays without a cache
        dispatcher._cache = _Cache(function)
    return dispatcher
