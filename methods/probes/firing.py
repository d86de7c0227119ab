"""Which channels of an encoder fire for which images: the outputs of its ReLUs, how often they fire, how sparsely."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


class Layer(NamedTuple):
    """The outputs of one ReLU for N images, summarized.

    mean: float32 (N, C), the mean of each channel over the image. positive: float32 (N, C), the share of positions at
    which the channel is above 0.
    """

    mean: Tensor
    positive: Tensor


class Watched:
    """Wraps an encoder and records the feature maps of each of its ReLUs, in the order in which they are computed.

    Its output is the encoder's own. A ReLU may be a module or a function call.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self._batches: list[list[Layer]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """Return the encoder's output for x, float (B, 3, H, W), and record its ReLUs."""
        with _Notes() as notes:
            out: Tensor = self.encoder(x)
        self._batches.append(notes.layers)
        return out

    def layers(self) -> list[Layer]:
        """Return one `Layer` per ReLU, of all images so far in their order, on the CPU.

        Raises ValueError if the encoder has no ReLU on feature maps.
        """
        found = [
            Layer(*(torch.cat(parts) for parts in zip(*one, strict=True))) for one in zip(*self._batches, strict=True)
        ]
        if not found:
            raise ValueError(
                f"{type(self.encoder).__name__} has no ReLU on feature maps whose firing could be measured"
            )
        return found


class _Notes(TorchFunctionMode):
    """While active, records the output of every ReLU on feature maps (4 dimensions)."""

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
    """Return, for each channel, the share of images for which its mean over the image is above 0: float32 (C,).

    Wen and Li 2021, Figure 4, count how neurons fire, but give no threshold; this one is ours. A single position above
    0 is enough: on large maps nearly every channel fires for nearly every image, and `positive` says more.
    """
    return (layer.mean > 0).float().mean(0)


def sparseness(mean: Tensor) -> Tensor:
    """Return each image's population sparseness (Treves and Rolls 1991), (sum r / C)^2 / (sum r^2 / C) over C channels.

    mean: (N, C), not negative. The result is (M,), for the M images for which any channel fires. A value of 1 / C means
    that a single channel fires, and 1 that all channels fire equally.
    """
    r = mean[(mean > 0).any(1)].double()
    return r.mean(1).square() / r.square().mean(1)
