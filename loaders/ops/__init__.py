"""One augmentation a file: the kernel, the drawing of its parameters, the torchvision twin it must agree with."""

from pathlib import Path

LOADERS = Path(__file__).parent.parent


def drop_stale_kernels() -> None:
    """Deletes compiled kernels that are older than any kernel's source.

    Numba compares a cached kernel with its own file only, not with those of the kernels that it calls, so after an
    edit or an update it would go on running the old ones.
    """
    sources = [*(LOADERS / f"{name}.py" for name in ("rng", "checksum", "decode", "render")), *LOADERS.glob("ops/*.py")]
    newest = max(source.stat().st_mtime for source in sources)
    for index in [*LOADERS.glob("__pycache__/*.nbi"), *LOADERS.glob("ops/__pycache__/*.nbi")]:
        if index.stat().st_mtime < newest:
            index.unlink(missing_ok=True)


drop_stale_kernels()
