"""Fixtures that the tests of several rooms share: small real betons, and the data root if there is one."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from twoview.cli import run
from twoview.loaders import beton, datasets
from twoview.loaders.beton import Beton

# A shell starts background processes with Ctrl-C ignored, which every process that a test starts would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example may compile a kernel, and a shared machine may stall, so there is no deadline. Examples are the
# same in every run, so that a rare draw does not fail an unrelated change.
settings.register_profile(
    "twoview",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("twoview")


def seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed the fixtures of a module, so that they do not depend on earlier tests, which differ from run to run."""
    seed()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed each test again, so that it does not depend on whether the fixtures of its module were made for it."""
    seed()


@pytest.fixture
def one_thread():
    """oneDNN sums gradients in the order in which threads finish, and a forked child would wait for torch's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    path = tmp_path_factory.mktemp("fashion") / "fashion.beton"
    for _ in beton.write(path, 2000, samples.stored, about=lambda: {"dataset": "fashion-mnist", "split": "train"}):
        pass
    return beton.open_beton(path)


@pytest.fixture(scope="session")
def betons(tmp_path_factory):
    """A folder with Fashion-MNIST converted by the command itself."""
    folder = tmp_path_factory.mktemp("betons")
    for split in ("train", "test"):
        assert run(["convert", "fashion-mnist", f"{folder}/fashion-mnist-{split}.beton", "--split", split]) == 0
    return folder


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
