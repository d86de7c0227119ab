"""Datasets by name, and the samples of their splits.

A dataset is looked for in the data root, the folder of the user's datasets, then in system packages. Small datasets are
downloaded if they are in neither. `Samples.source` says where the samples were found.

Each dataset is one declaration, in `small.py`, `imagenets.py` or `transfer_tasks.py`, or comes from another library
(`packages.py`).
"""

from collections.abc import Callable

from twoview.loaders.datasets.declaration import IMAGENET_MEAN, IMAGENET_STD, Dataset, NotInRoot, Split, data_root
from twoview.loaders.datasets.imagenets import IMAGENETS
from twoview.loaders.datasets.packages import hugging_face_dataset, torchvision_dataset
from twoview.loaders.datasets.samples import Samples, image_folder, read_image
from twoview.loaders.datasets.small import DEBIAN_FASHION_MNIST, DOWNLOADS, PHOTOGRAPHS, SMALL, bundled_photographs
from twoview.loaders.datasets.transfer_tasks import TRANSFER
from twoview.loaders.names import look_up

__all__ = [
    "DATASETS",
    "DEBIAN_FASHION_MNIST",
    "DOWNLOADS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LIBRARIES",
    "PHOTOGRAPHS",
    "Dataset",
    "NotInRoot",
    "Samples",
    "Split",
    "bundled_photographs",
    "data_root",
    "dataset",
    "image_folder",
    "read_image",
]

DATASETS = {entry.name: entry for entry in (*SMALL, *IMAGENETS, *TRANSFER)}
LIBRARIES: dict[str, Callable[[str], Dataset]] = {"torchvision": torchvision_dataset, "hf": hugging_face_dataset}


def dataset(name: str) -> Dataset:
    """Return the dataset with this name; `torchvision:NAME` and `hf:NAME` are from torchvision and the Hugging Face
    hub.

    Raises ValueError, with the known names, if there is none.
    """
    library, _, inside = name.partition(":")
    if inside and library in LIBRARIES:
        return LIBRARIES[library](inside)
    return look_up("dataset", name, DATASETS)
