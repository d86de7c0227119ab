"""The interface of every backbone: a network from images to representations that states their width."""

from torch import Tensor, nn


class Encoder(nn.Module):
    """A network from normalized float images (B, 3, H, W) to representations (B, dim).

    body: the network itself, which returns (B, dim). dim: width of the representation.
    """

    def __init__(self, body: nn.Module, dim: int) -> None:
        super().__init__()
        self.body = body
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out
