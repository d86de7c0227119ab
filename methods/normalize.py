"""Turn uint8 pixels into the normalized float32 input of the encoder, on its device."""

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Computes (x / 255 - mean) / std per channel, from uint8 (B, 3, H, W) to float32 of the same shape.

    mean, std: one value per channel, on the scale where pixels are in [0, 1].
    """

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("shift", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(3, 1, 1)), persistent=False)
        self.shift: Tensor
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x.float().sub_(self.shift).mul_(self.scale)
