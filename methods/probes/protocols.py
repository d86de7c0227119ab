"""Evaluation protocols: how papers and their code train a linear head on a frozen encoder, or the whole network.

Both are trained on augmented images, not on stored features. A protocol says where each of its values was read. Values
that the source does not give are named as not found, with the origin of the value that is used in their place.
"""

from collections.abc import Callable
from dataclasses import dataclass

from twoview.loaders.names import look_up
from twoview.loaders.views import Jitter, View
from twoview.methods.optim import Optim


@dataclass(frozen=True)
class Protocol:
    """How a head, or a whole network, is trained and tested.

    train, test: functions from an image side in pixels to the view of an image, which is its crop and augmentations.
    optim: optimizer settings, for `batch` images per step.
    batchnorm: whether a BatchNorm with affine parameters comes before the head. tokens: number of a ViT's last blocks
    whose class tokens are concatenated into the features; other encoders give their usual output. whole: whether the
    encoder is trained too, each of its layers with `layer_decay` times the learning rate of the layer above.
    smoothing: of the labels in the cross entropy. found: what the source says, and which source it is. missing: what
    was not found or is not done here, and what is used in its place.
    """

    train: Callable[[int], View]
    test: Callable[[int], View]
    optim: Optim
    epochs: int
    batch: int
    found: str
    missing: str = ""
    batchnorm: bool = False
    tokens: int = 1
    whole: bool = False
    layer_decay: float = 1.0
    smoothing: float = 0.0


def protocol(name: str, dataset: str) -> Protocol:
    """Return the protocol with this name for a dataset.

    Raises ValueError, with the known names, if there is no such protocol or it has no settings for the dataset.
    """
    if name == "vissl":
        return look_up("dataset of the protocol vissl", dataset, VISSL)
    return look_up("protocol", name, {**PROTOCOLS, "vissl": LEE})


def _crop(size: int) -> View:
    """Return the view of torchvision's RandomResizedCrop and random flip."""
    return View(size)


def _center(size: int) -> View:
    """Return a center crop, 224 of an image resized to 256 or in proportion; up to 64 pixels it is the whole image."""
    return View(size, scale=None, resize=size if size <= 64 else round(size * 256 / 224), flip=0.0)


def _whole(flip: float) -> Callable[[int], View]:
    """Return a function to views of the whole of a square image, as torchvision's Resize(224) makes them."""
    return lambda size: View(size, scale=None, resize=size, flip=flip)


def _squeezed(flip: float) -> Callable[[int], View]:
    """Return a function to views of a whole CLEVR image of 480 x 320, as torchvision's Resize((224, 224)) makes them.

    With this scale and ratio the only possible crop is the whole image.
    """
    return lambda size: View(size, scale=(1.0, 1.0), ratio=(1.5, 1.5), flip=flip)


def _kernel_infonce(size: int) -> View:
    """Return the training view of the code of Tan et al. 2024: crop, flip, color jitter and grayscale."""
    return View(size, jitter=Jitter(0.8, 0.8, 0.8, 0.2, p=0.8), gray=0.2)


def _kernel_infonce_test(size: int) -> View:
    """Return the test view of the same code: Resize(35) and CenterCrop(32), in this proportion at other sizes."""
    return View(size, scale=None, resize=int(1.1 * size), flip=0.0)


LEE = Protocol(
    train=_crop,
    test=_center,
    optim=Optim(name="lars", lr=1.6, momentum=0.9, weight_decay=0.0, trust=0.001, decay_all=True),
    epochs=90,
    batch=4096,
    found="Lee 2025: LARS, batch 4,096, 90 epochs",
    missing="rate, decay and augmentation are not found; they are from SimSiam's main_lincls.py (0.1 * 4096 / 256, "
    "none, crop and flip), which is inferred to be the code that Lee's settings come from",
)
TAN = Protocol(
    train=_kernel_infonce,
    test=_kernel_infonce_test,
    optim=Optim(name="sgd", lr=0.3, momentum=0.9, weight_decay=1e-6, decay_all=True),
    epochs=100,
    batch=64,
    found="Tan 2024: SGD, cosine from 0.3 to 0, batch 64, decay 1e-6, 100 epochs; its code: views and momentum",
    missing="the code's batches are of 64 on each of 4 GPUs by default, and it trains on 40,000 of CIFAR-10's images",
)
SOLO = Protocol(
    train=_crop,
    test=_center,
    optim=Optim(name="sgd", lr=1.0, momentum=0.9, weight_decay=0.0, steps=(60, 80), decay_all=True),
    epochs=100,
    batch=256,
    found="solo-learn's scripts/linear/imagenet-100 and solo/args/linear.py: SGD, rate 1 and a tenth from epochs 60 "
    "and 80, momentum 0.9, no decay, batch 256, 100 epochs, crop and flip",
)
MAE = Protocol(
    train=lambda size: View(size, interpolation="bicubic"),
    test=lambda size: View(
        size, scale=None, resize=size if size <= 64 else round(size * 256 / 224), flip=0.0, interpolation="bicubic"
    ),
    optim=Optim(name="adamw", lr=2e-3, weight_decay=0.05, warmup_epochs=5, floor=5e-4),
    epochs=100,
    batch=1024,
    found="MAE's FINETUNE.md and main_finetune.py for ViT-B: AdamW, batch 1,024, rate 5e-4 * 1024 / 256 with 5 epochs "
    "of warm-up, decay 0.05, layer decay 0.65, label smoothing 0.1, 100 epochs",
    missing="RandAugment, random erasing 0.25, mixup 0.8, cutmix 1.0 and drop path 0.1 are not done; the head sees the "
    "class token, where MAE averages the patches and says that the token performs similarly",
    whole=True,
    layer_decay=0.65,
    smoothing=0.1,
)


def _vissl(epochs: int, train: Callable[[int], View], test: Callable[[int], View], step: int = 0) -> Protocol:
    """Return VISSL's protocol. step: the learning rate is divided by ten after this many epochs, three times.

    With step 0 the rate follows a cosine from 0.01 to 1e-4 instead.
    """
    optim = Optim(
        name="sgd",
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        steps=(step, 2 * step, 3 * step) if step else (),
        floor=0.0 if step else 0.01,
    )
    return Protocol(
        train=train,
        test=test,
        optim=optim,
        epochs=epochs,
        batch=256,
        found="VISSL's configs/config/benchmark/linear_image_classification: Nesterov 0.9, decay 5e-4, rate 0.01 for "
        "batch 256, BatchNorm and a linear layer",
        missing="which of VISSL's settings Assran 2023 used is not found: these are its defaults; there the "
        "bias decays, here it does not, and the cosine is set by epochs, here by steps",
        batchnorm=True,
        tokens=4,
    )


# VISSL's protocol for each dataset that it has settings for.
VISSL = {
    "imagenet": _vissl(28, _crop, _center, step=8),
    "inat18": _vissl(84, _crop, _center, step=24),
    "cifar100": _vissl(28, _whole(0.5), _whole(0.0), step=8),
    "clevr-count": _vissl(50, _squeezed(0.5), _squeezed(0.0)),
    "clevr-distance": _vissl(100, _squeezed(0.5), _squeezed(0.0)),
    "kitti-distance": _vissl(28, _crop, _center, step=8),
    "places205": _vissl(14, _crop, _center, step=4),
}
PROTOCOLS = {"lee2025": LEE, "tan2024": TAN, "solo-learn": SOLO, "mae-finetune": MAE}
NAMES = (*PROTOCOLS, "vissl")
