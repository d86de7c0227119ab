"""What several rooms' tests share: small real betons, and the data root where there is one."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from loaders import beton, datasets
from loaders.beton import Beton

# The first example may compile a kernel, and a shared machine may stall: time is no property here.
settings.register_profile("twoview", deadline=None)
settings.load_profile("twoview")


def write_beton(path: Path, samples: datasets.Samples, count: int) -> Beton:
    for _ in beton.write(path, count, samples.stored):
        pass
    return beton.open_beton(path)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Beton:
    """48 real JPEGs of varying sizes."""
    samples = datasets.dataset("photographs").find(None, "train")
    return write_beton(tmp_path_factory.mktemp("photographs") / "photographs.beton", samples, 48)


@pytest.fixture(scope="session")
def fashion(tmp_path_factory) -> Beton:
    """2,000 real 28 x 28 images, raw."""
    samples = datasets.dataset("fashion-mnist").find(None, "train")
    return write_beton(tmp_path_factory.mktemp("fashion") / "fashion.beton", samples, 2000)


@pytest.fixture
def copy_of(tmp_path):
    """A function: beton -> a copy of its file that a test may damage."""

    def copy(source: Beton) -> Path:
        path = tmp_path / source.path.name
        path.write_bytes(source.path.read_bytes())
        return path

    return copy


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """The data root with CIFAR-10."""
    root = os.environ.get("TWOVIEW_DATA")
    if not root or not (Path(root) / "cifar-10-batches-py").is_dir():
        pytest.skip("CIFAR-10 is not here: TWOVIEW_DATA names no data root with cifar-10-batches-py")
    return Path(root)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
