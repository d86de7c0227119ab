"""Which channels of an encoder fire for which images: what its ReLUs give, how often, and how sparsely."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


class Layer(NamedTuple):
    """What one ReLU gave for N images. mean: float32 (N, C), of each channel over the image. positive: float32 (N, C),
    the share of the channel's places with a value above 0.
    """

    mean: Tensor
    positive: Tensor


class Watched:
    """An encoder that gives what it gives, and notes each ReLU's maps, in the order in which they are computed.

    Whether a ReLU is a module or a function makes no difference.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self._batches: list[list[Layer]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """float (B, 3, H, W) -> what the encoder makes of it."""
        with _Notes() as notes:
            out: Tensor = self.encoder(x)
        self._batches.append(notes.layers)
        return out

    def layers(self) -> list[Layer]:
        """Of all images so far, in their order, on the CPU. ValueError if the encoder has no ReLU on maps."""
        found = [
            Layer(*(torch.cat(parts) for parts in zip(*one, strict=True))) for one in zip(*self._batches, strict=True)
        ]
        if not found:
            raise ValueError(f"{type(self.encoder).__name__} has no ReLU whose firing could be counted")
        return found


class _Notes(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in RELUS and out.ndim == 4:
            maps = out.detach().float()
            self.layers.append(Layer(maps.mean((2, 3)).cpu(), (maps > 0).float().mean((2, 3)).cpu()))
        return out


def firing_rate(layer: Layer) -> Tensor:
    """float32 (C,): the share of images for which a channel's mean over the image is above 0.

    Wen and Li 2021, Figure 4, count how neurons fire; their threshold is not given, and this one is ours. One place
    above 0 is enough for it: on large maps every channel fires for nearly every image, and `positive` says more.
    """
    return (layer.mean > 0).float().mean(0)


def sparseness(mean: Tensor) -> Tensor:
    """Population sparseness of Treves and Rolls 1991, (sum r / C)^2 / (sum r^2 / C) over an image's C channels.

    mean: (N, C), none below 0 -> (M,), of the M images for which any channel fires. 1 / C: one channel fires alone;
    1: all fire alike.
    """
    r = mean[(mean > 0).any(1)].double()
    return r.mean(1).square() / r.square().mean(1)
