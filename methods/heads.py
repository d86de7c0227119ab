"""Heads: small networks between the encoder and the loss, thrown away after training."""

from torch import nn


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """(B, width) -> (B, out), one hidden layer with BatchNorm and ReLU: SimCLR's projector (Chen et al. 2020)."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
    )
