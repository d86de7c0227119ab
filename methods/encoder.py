"""The interface of every backbone: a network from images to representations that states their width."""

from typing import Any

from torch import Tensor, nn

from twoview.methods.accumulate import ByParts, by_parts


class Encoder(ByParts):
    """A network from normalized float images (B, 3, H, W) to representations (B, dim).

    body: the network itself, which returns (B, dim). dim: width of the representation.
    """

    def __init__(self, body: nn.Module, dim: int) -> None:
        super().__init__()
        self.body = body
        self.dim = dim

    @by_parts
    def __call__(self, *inputs: Tensor) -> Any:
        return super().__call__(*inputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out
