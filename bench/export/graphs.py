"""An encoder as a graph that needs no Python class of ours: torch.export (`.pt2`) and ONNX."""

from pathlib import Path

import torch
from torch import Tensor, nn

from twoview.methods.encoder import Encoder

Statistics = tuple[float, float, float]  # one value per channel, on the scale where pixels are in [0, 1]
LARGEST_BATCH = 1 << 16


class FromPixels(nn.Module):
    """The encoder with its normalization: float32 images (B, 3, H, W) in [0, 1] -> representations (B, dim).

    mean, std: channel statistics of the normalization.
    """

    def __init__(self, encoder: Encoder, mean: Statistics, std: Statistics) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.encoder((images - self.mean) / self.std)
        return out


def program(encoder: Encoder, size: int, mean: Statistics, std: Statistics) -> torch.export.ExportedProgram:
    """Return the encoder with its normalization, `FromPixels`, as a program for any number of images of `size` pixels.

    encoder: in eval mode, on the CPU. size: height and width of the images. mean, std: as in `FromPixels`.
    """
    module = FromPixels(encoder, mean, std).eval()
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    example = torch.rand(2, 3, size, size)
    return torch.export.export(module, (example,), dynamic_shapes={"images": {0: batch}})


def write_onnx(exported: torch.export.ExportedProgram, path: Path) -> None:
    """Write the program as ONNX, with the input `images` and the output `features`.

    Raises ImportError, saying how to install them, if the packages that torch needs for it are missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ImportError("ONNX needs more packages: pip install 'twoview[export]'") from None
    onnx_program = torch.onnx.export(
        exported, input_names=["images"], output_names=["features"], dynamo=True, external_data=False, verbose=False
    )
    assert onnx_program is not None
    onnx_program.save(path)
