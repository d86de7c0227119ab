"""A dataset's beton files, made once and kept in a folder."""

from pathlib import Path

from bench.environment import cpu_count
from bench.progress import progress
from loaders import beton, datasets


def convert(samples: datasets.Samples, path: Path, what: str, threads: int) -> None:
    """Writes samples to a beton file with a progress bar."""
    with progress(f"convert {what}", len(samples)) as advance:
        for _ in beton.write(path, len(samples), samples.stored, threads):
            advance()


def of_dataset(name: str, split: datasets.Split, folder: Path, root: Path | None) -> beton.Beton:
    """The beton file of a dataset's split, converted first where it is not in the folder yet."""
    path = folder / f"{name}-{split}.beton"
    if not path.exists():
        convert(datasets.dataset(name).find(root, split), path, f"{name} {split}", cpu_count())
    return beton.open_beton(path)
