"""Name -> samples. Each dataset looks in the data root, then in system packages; the small ones are then downloaded.

A dataset is one declaration: `small.py`, `imagenets.py`, `transfer_tasks.py`; or it has its name from another library:
`packages.py`. `Samples.source` says where the samples were found.
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
    """The dataset of that name. ValueError with the known names, the nearest first, if there is none.

    `torchvision:NAME` and `hf:NAME` are datasets of torchvision and of the Hugging Face hub.
    """
    library, _, inside = name.partition(":")
    if inside and library in LIBRARIES:
        return LIBRARIES[library](inside)
    return look_up("dataset", name, DATASETS)
