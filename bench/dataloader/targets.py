"""The measurements of the loader and the writer, and the required speed and memory."""

from dataclasses import dataclass, replace
from typing import Literal

from twoview.bench.dataloader.rates import BATCH, IMAGES, PEERS, WRITERS

Field = Literal["images_per_s", "first_batch_s", "first_batch_empty_cache_s", "peak_mib"]  # in a record


@dataclass(frozen=True)
class LoaderWork:
    """A loader measurement: passes over `images` training images of a dataset, compared with peers.

    views: name of a preset of views, that is, of crops and augmentations. size: side of a view, in pixels.
    rounds: number of rounds of ours and of each peer; fewer if the ratios are known to `tolerance` earlier, see `race`.
    empty_cache: also measure a first batch for which all kernels must be compiled.
    """

    dataset: str
    views: str
    size: int
    images: int = IMAGES
    batch: int = BATCH
    peers: tuple[str, ...] = PEERS
    rounds: int = 5
    tolerance: float | None = None
    empty_cache: bool = False

    @property
    def name(self) -> str:
        return f"loader-{self.dataset}-{self.views}-{self.size}"


@dataclass(frozen=True)
class ConvertWork:
    """A writer measurement: `images` JPEG files of a dataset are written to a beton file, compared with peers."""

    dataset: str
    images: int = 1280
    peers: tuple[str, ...] = WRITERS
    rounds: int = 5

    @property
    def name(self) -> str:
        return f"convert-{self.dataset}"


@dataclass(frozen=True)
class Requirement:
    """A bound on one field of a record.

    work: what is measured, in words. record: name of the record. field: the bounded field. against: the peer by whose
    value ours is divided; empty if the bound is on our own seconds. bound: the minimum for `images_per_s`, the maximum
    for all other fields.
    """

    work: str
    record: str
    field: Field
    against: str
    bound: float

    @property
    def at_least(self) -> bool:
        """Whether the bound is a lower bound."""
        return self.field == "images_per_s"

    def met(self, measured: float) -> bool:
        """Return whether a measured value meets the bound."""
        return measured >= self.bound if self.at_least else measured <= self.bound


SIMCLR = LoaderWork("photographs", "simclr-imagenet", 224, empty_cache=True)
CROPS = LoaderWork("photographs", "crops", 224, peers=("ffcv", "decode"))
# FFCV keeps a batch of decoded images per view and slot: with twelve views of 256 images it would take 7 GiB.
MSN_CROPS = LoaderWork("photographs", "crops-msn", 224, images=512, batch=64, peers=("ffcv",))
MSN = LoaderWork("photographs", "msn", 224, images=512, batch=64, peers=("ffcv",))
FASHION = LoaderWork("fashion-mnist", "simclr-cifar", 32, images=8192, peers=("torchvision", "ffcv"))
CIFAR = LoaderWork("cifar10", "simclr-cifar", 32, images=8192, peers=("torchvision", "ffcv"))
CONVERT = ConvertWork("photographs")
# Faster versions: fewer images, and only as many rounds as it takes to know the ratios to 5 %.
QUICK_SIMCLR = replace(SIMCLR, images=512, batch=64, tolerance=0.05, empty_cache=False)
QUICK_FASHION, QUICK_CIFAR = (replace(work, images=4096, tolerance=0.05) for work in (FASHION, CIFAR))
TABLE = (SIMCLR, CROPS, MSN_CROPS, MSN, FASHION, CONVERT)

_SIMCLR, _CROPS = "SimCLR 2x224, every op", "crops 2x224"
REQUIREMENTS = (
    Requirement(_SIMCLR, SIMCLR.name, "images_per_s", "torchvision", 12),
    Requirement(_SIMCLR, SIMCLR.name, "images_per_s", "ffcv", 1),
    Requirement(_SIMCLR, SIMCLR.name, "images_per_s", "decode", 0.4),
    Requirement(_CROPS, CROPS.name, "images_per_s", "ffcv", 2.5),
    Requirement("crops 2x224 + 10x96", MSN_CROPS.name, "images_per_s", "ffcv", 6),
    Requirement("MSN 2x224 + 10x96, every op", MSN.name, "images_per_s", "ffcv", 3),
    Requirement("SimCLR 2x32 raw, CIFAR-10", CIFAR.name, "images_per_s", "torchvision", 40),
    Requirement("SimCLR 2x32 raw, Fashion-MNIST", FASHION.name, "images_per_s", "torchvision", 40),
    Requirement(_SIMCLR, SIMCLR.name, "first_batch_s", "", 2),
    Requirement(_SIMCLR, SIMCLR.name, "first_batch_empty_cache_s", "", 25),
    Requirement(_SIMCLR, SIMCLR.name, "peak_mib", "ffcv", 0.5),
    Requirement(_CROPS, CROPS.name, "peak_mib", "ffcv", 0.5),
    Requirement("convert JPEG files", CONVERT.name, "images_per_s", "ffcv", 3),
)
