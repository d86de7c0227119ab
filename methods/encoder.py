"""What every backbone is: images -> representations, of a width that it says."""

from torch import Tensor, nn


class Encoder(nn.Module):
    """(B, 3, H, W) -> (B, dim). `body` ends in a flat representation."""

    def __init__(self, body: nn.Module, dim: int) -> None:
        super().__init__()
        self.body = body
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out
