"""Heads: small networks between the encoder and the loss, discarded after training."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import nn

from twoview.methods.method import Options
from twoview.methods.settings import Repeats, Width

Norm = Literal["hidden", "all", "none"]  # linear layers that BatchNorm follows: hidden ones, all, none
Activation = Callable[[], nn.Module]  # makes an activation
relu: Activation = partial(nn.ReLU, inplace=True)


class ProjectorOptions(Options):
    """The keys that the `[method]` tables of all methods with a projector share. The defaults are SimCLR's."""

    hidden: Width = 2048  # width of the projector's hidden layers
    projection: Width = 128  # width of the projector's output
    layers: Repeats = 2  # number of the projector's linear layers
    norm: Norm = "hidden"  # which of the projector's linear layers are followed by BatchNorm

    def projector(self, width: int, bias: bool = True, activation: Activation = relu) -> nn.Sequential:
        """Return a projector with these options, (B, width) -> (B, projection).

        bias: whether the last layer has one. activation: makes the activation between the layers.
        """
        hidden = [self.hidden] * (self.layers - 1)
        return mlp(width, *hidden, self.projection, norm=self.norm, bias=bias, activation=activation)


def mlp(*widths: int, norm: Norm = "hidden", bias: bool = True, activation: Activation = relu) -> nn.Sequential:
    """Return a multilayer perceptron, (B, widths[0]) -> (B, widths[-1]), with an activation between linear layers.

    norm: which linear layers are followed by BatchNorm; these have no bias. bias: whether the last layer has a bias if
    it has no BatchNorm. activation: makes the activation, by default ReLU.
    Source: with three widths it is SimCLR's projector (Chen et al. 2020) and BYOL's predictor, with four VICReg's
    expander.
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
