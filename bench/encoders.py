"""Encoders that others published, for the probes: `torchvision:NAME`, `timm:NAME` or `checkpoint:FILE`."""

from dataclasses import dataclass

from torch import nn

from methods.normalise import Normalise


@dataclass(frozen=True)
class Published:
    """An encoder ready to be probed.

    name: what stands in records, without characters that a file's name cannot have. module: normalised float
    (B, 3, H, W) -> (B, dim), in eval mode, on the CPU. size: side of the images it was made for, in pixels.
    normalise: what its pixels went through in training; None where the file does not say, which means the probed
    dataset's own mean and std. hash: SHA-256 of structure and weights, in hex. source: where the weights are from.
    """

    name: str
    module: nn.Module
    dim: int
    size: int
    normalise: Normalise | None
    hash: str
    source: str


def load(spec: str, arch: str | None = None, layout: str | None = None) -> Published:
    """The encoder of the spec.

    torchvision:NAME or torchvision:NAME.WEIGHTS, timm:NAME: with the weights published there, downloaded where they
    are not there already. checkpoint:FILE: someone's file; `arch` says which architecture its weights are of, as
    torchvision:NAME or timm:NAME, and `layout` whose key names they have, which is found out by default.
    ValueError for a spec that is none of these, an architecture or a layout that is not known, a key that is missing or
    left over; OSError, naming the file, where weights can be neither found nor downloaded.
    """
    raise ValueError(f"--encoder {spec}: cannot be loaded yet")
