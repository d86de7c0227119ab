"""What the tests of this floor share."""

import pytest

from twoview.cli import run


@pytest.fixture(scope="session")
def betons(tmp_path_factory):
    """A folder with Fashion-MNIST converted by the command itself."""
    folder = tmp_path_factory.mktemp("betons")
    for split in ("train", "test"):
        assert run(["convert", "fashion-mnist", f"{folder}/fashion-mnist-{split}.beton", "--split", split]) == 0
    return folder
