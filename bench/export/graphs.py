"""An encoder as a graph that needs no Python class of ours: torch.export (`.pt2`) and ONNX."""

from pathlib import Path

import torch
from torch import Tensor, nn

from twoview.methods.encoder import Encoder
from twoview.methods.normalize import Normalize


class FromPixels(nn.Module):
    """The encoder with its normalization: float32 images (B, 3, H, W) in [0, 1] -> representations (B, dim)."""

    def __init__(self, encoder: Encoder, normalize: Normalize) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.encoder(self.normalize(255 * images))
        return out


def program(encoder: Encoder, normalize: Normalize, size: int) -> torch.export.ExportedProgram:
    """Return the encoder with its normalization, `FromPixels`, as a program for any number of images of `size` pixels.

    encoder: in eval mode, on the CPU. size: height and width of the images.
    """
    example = torch.rand(2, 3, size, size)
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(FromPixels(encoder, normalize).eval(), (example,), dynamic_shapes={"images": {0: batch}})


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
