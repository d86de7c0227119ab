"""Backbones by the names of timm's models, such as `timm:convnext_tiny`, always with newly drawn weights.

What a model accepts is not written down anywhere in timm, so it is tried on torch's meta device, which has shapes but
computes nothing.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from twoview.loaders.errors import reason
from twoview.loaders.names import look_up
from twoview.methods.encoder import Encoder

TIMM = "timm:"  # begins the name of a backbone that timm builds


class Settings(NamedTuple):
    """How timm builds a model for images of one size.

    options: the arguments of `timm.create_model`. dim: width of the pooled features.
    """

    options: dict[str, Any]
    dim: int


def checked(name: str) -> str:
    """Return a backbone's name, `timm:NAME`. Raises ValueError, with the nearest known names, if timm has no NAME."""
    model = name.removeprefix(TIMM)
    plain, _, tag = model.partition(".")
    check_known(plain)
    if tag:
        raise ValueError(
            f"must be {TIMM}{plain}, without the name of weights, since weights come from the file in "
            f"backbone.checkpoint, got {name}"
        )
    return name


def check_known(model: str) -> None:
    """Raise ValueError, with the nearest known names, if timm has no such model."""
    import timm  # imported here, as everywhere, because it takes seconds

    look_up("model of timm", model, dict.fromkeys(timm.list_models()))


def build(name: str, size: int) -> Encoder:
    """Return timm's model as an encoder, with weights drawn from torch's global generator.

    name: `timm:NAME`. size: side of the images, in pixels.
    Raises ValueError, naming both, if the model does not turn such images into one vector of features each.
    """
    import timm

    options, dim = settings_for(name, size)
    return Encoder(timm.create_model(name.removeprefix(TIMM), pretrained=False, num_classes=0, **options), dim)


@cache
def settings_for(name: str, size: int) -> Settings:
    """Return how timm builds a model for images of `size` pixels. Raises ValueError as `build` does."""
    try:
        with torch.random.fork_rng(devices=()):  # a first call must draw no numbers that later calls do not draw
            module, options = _outlined(name.removeprefix(TIMM), size)
            features = _features(module, size)
    except Exception as error:  # each of timm's hundreds of models checks its input in its own way, or not at all
        raise ValueError(f"{name} cannot take images of {size} x {size} pixels: {reason(error)}") from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"{name} must return features (B, D) for images of {size} x {size} pixels, got {shape}")
    return Settings(options, features.shape[1])


def check_side(module: nn.Module, name: str, side: int) -> None:
    """Raise ValueError, naming both, if a model on torch's meta device cannot take images of this side, in pixels."""
    try:
        _features(module, side)
    except Exception as error:
        raise ValueError(f"{name} cannot take views of {side} x {side} pixels: {reason(error)}") from None


@cache
def head_keys(model: str) -> frozenset[str]:
    """Return the keys of the weights of a model's classification head: those that it lacks without classes."""
    import timm

    with torch.device("meta"):
        whole, headless = timm.create_model(model), timm.create_model(model, num_classes=0)
    return frozenset(whole.state_dict().keys() - headless.state_dict().keys())


def _outlined(model: str, size: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model on torch's meta device for images of `size` pixels, and the arguments that say so, if any."""
    import timm

    with torch.device("meta"):
        try:
            return timm.create_model(model, num_classes=0, img_size=size), {"img_size": size}
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return timm.create_model(model, num_classes=0), {}  # takes images of any size


def _features(module: nn.Module, side: int) -> Any:
    """Return what a model on torch's meta device makes of two images in training."""
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if patch and side % patch[0]:  # timm would cut off the rest of the image
        raise ValueError(f"they are not divisible into patches of {patch[0]}")
    return module.train()(torch.empty(2, 3, side, side, device="meta"))
