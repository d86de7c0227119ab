"""Heads: small networks between the encoder and the loss, thrown away after training."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import nn

from twoview.methods.method import Options
from twoview.methods.settings import Repeats, Width

Norm = Literal["hidden", "all", "none"]
Activation = Callable[[], nn.Module]
relu: Activation = partial(nn.ReLU, inplace=True)


class ProjectorOptions(Options):
    """What the `[method]` tables of all methods with a projector share; the defaults are SimCLR's."""

    hidden: Width = 2048  # width of the projector's hidden layers
    projection: Width = 128  # width of its output
    layers: Repeats = 2  # its linear layers
    norm: Norm = "hidden"  # which of them BatchNorm follows

    def projector(self, width: int, bias: bool = True, activation: Activation = relu) -> nn.Sequential:
        """(B, width) -> (B, projection). bias: of the last layer. activation: between the layers."""
        hidden = [self.hidden] * (self.layers - 1)
        return mlp(width, *hidden, self.projection, norm=self.norm, bias=bias, activation=activation)


def mlp(*widths: int, norm: Norm = "hidden", bias: bool = True, activation: Activation = relu) -> nn.Sequential:
    """(B, widths[0]) -> (B, widths[-1]): linear layers with ReLU between them, and BatchNorm after the hidden ones.

    norm: which layers BatchNorm follows; those have no bias of their own. bias: of a last layer without BatchNorm.
    activation: makes what takes the place of ReLU.
    Source: SimCLR's projector (Chen et al. 2020) for three widths, BYOL's predictor too, VICReg's expander for four.
    """
    modules: list[nn.Module] = []
    for number, (width, out) in enumerate(pairwise(widths), 1):
        last = number == len(widths) - 1
        normed = norm == "all" or (norm == "hidden" and not last)
        modules.append(nn.Linear(width, out, bias=not normed and (bias or not last)))
        if normed:
            modules.append(nn.BatchNorm1d(out))
        if not last:
            modules.append(activation())
    return nn.Sequential(*modules)
