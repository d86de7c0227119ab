"""Backbones: the networks that turn images into representations, and the recipe's table that chooses one."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch.nn.functional as F
from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn

from twoview.loaders.names import look_up
from twoview.methods import timm_models
from twoview.methods.encoder import Encoder
from twoview.methods.settings import Repeats, Settings, Side, Text, Width
from twoview.methods.timm_models import TIMM
from twoview.methods.vit import VITS, ViT

WIDE = "wide-resnet"
# Name of each backbone -> what it is.
BACKBONES = {
    "resnet-tiny": "a ResNet of two blocks, for images of 32 pixels on a CPU",
    "resnet-small": "a ResNet of three blocks, for images of 32 pixels on a CPU",
    "resnet18": "torchvision's ResNet-18, with a stem for CIFAR or ImageNet",
    "resnet34": "torchvision's ResNet-34, with a stem for CIFAR or ImageNet",
    "resnet50": "torchvision's ResNet-50, with a stem for CIFAR or ImageNet",
    WIDE: "a wide ResNet for images of 32 pixels (Zagoruyko and Komodakis 2016)",
    "alexnet": "the five convolutions of an AlexNet for small images",
    **{
        name: f"a ViT of {shape.depth} blocks and width {shape.width}, of timm's blocks; its patches can be masked"
        for name, shape in VITS.items()
    },
    f"{TIMM}NAME": f"any image model of timm, by its NAME there, such as {TIMM}convnext_tiny",
}
# Keys that apply to some backbones only: key -> (these backbones in words, their names).
ONLY = {
    **dict.fromkeys(("patch", "positions", "drop_path", "pool"), ("ViTs", tuple(VITS))),
    **dict.fromkeys(("depth", "widen"), (WIDE, (WIDE,))),
}


def _is_known(name: str) -> str:
    """Return the name of a backbone. Raises ValueError, with the nearest known names, if there is none of this name."""
    if name.startswith(TIMM):
        return timm_models.checked(name)
    look_up("backbone", name, BACKBONES)
    return name


class Backbone(Settings):
    """The `[backbone]` table of a recipe (the TOML file that describes an experiment)."""

    name: Annotated[Text, AfterValidator(_is_known)] = "resnet-small"  # see `twoview list backbones`
    # File of weights that the encoder starts from; in a recipe's file the path is relative to that file.
    checkpoint: Text = ""
    # SHA-256 of that file, in hex. If it is not given, a run computes it when it starts.
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    # Stem of a torchvision ResNet: cifar is a 3x3 convolution, imagenet is 7x7 with stride 2 and max-pooling.
    stem: Literal["cifar", "imagenet"] = "cifar"
    width: Width = 32  # channels of the stem of resnet-tiny and resnet-small, or of alexnet's first layer (paper: 96)
    depth: Annotated[Repeats, Field(ge=10)] = 34  # layers of wide-resnet: 6 n + 4 for n blocks per stage
    widen: Repeats = 5  # wide-resnet's width relative to the first ResNets for CIFAR (16, 32 and 64 channels)
    patch: Side = 16  # side of a ViT's patches, in pixels
    positions: Literal["learned", "sincos"] = "learned"  # a ViT's position embeddings; sincos ones are fixed
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0  # probability that a ViT's last block is skipped in training
    # A ViT's representation: the class token, or the mean of the patches' tokens, for methods that train only those.
    pool: Literal["class", "mean"] = "class"

    @field_validator("depth")
    @classmethod
    def _of_whole_blocks(cls, depth: int) -> int:
        if (depth - 4) % 6:
            raise ValueError(f"must be 6 n + 4, got {depth}")
        return depth

    @model_validator(mode="after")
    def _keys_of_its_own(self) -> Self:
        if self.sha256 and not self.checkpoint:
            raise ValueError("sha256 is the hash of backbone.checkpoint, which is missing")
        for key, (whose, names) in ONLY.items():
            if self.name not in names and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is only for {whose}, not for {self.name}")
        return self

    @model_serializer(mode="wrap")
    def _told(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write a key that only some backbones have for those backbones only, and keys of a checkpoint if there is one.

        Records of the other backbones then have the same keys as older records and stay comparable with them.
        """
        return {key: value for key, value in values(self).items() if self._has(key)}

    def _has(self, key: str) -> bool:
        """Return whether a key means anything for this backbone."""
        if key in ("checkpoint", "sha256"):
            return bool(getattr(self, key))
        if self.name.startswith(TIMM):
            return key == "name"
        return key not in ONLY or self.name in ONLY[key][1]


def build(backbone: Backbone, size: int = 224) -> Encoder:
    """Return an encoder with fresh weights, drawn from torch's global generator.

    size: side of the images in pixels; a ViT makes one position embedding per patch of such an image.
    Raises ValueError, naming the backbone and the size, if it cannot take such images.
    """
    if backbone.name.startswith(TIMM):
        return timm_models.build(backbone.name, size)
    if backbone.name in VITS:
        return ViT(*VITS[backbone.name], backbone.patch, size, backbone.positions, backbone.drop_path, backbone.pool)
    if backbone.name == "resnet-tiny":
        return _strided(backbone.width, ((2, 2), (4, 2)))
    if backbone.name == "resnet-small":
        return _strided(backbone.width, ((1, 1), (2, 2), (2, 2)))
    if backbone.name == WIDE:
        return _wide(backbone.depth, backbone.widen)
    if backbone.name == "alexnet":
        return _alexnet(backbone.width)
    return _torchvision(backbone.name, backbone.stem)


def _strided(width: int, blocks: Sequence[tuple[int, int]]) -> Encoder:
    """Return a small ResNet for images of about 32 pixels. Its stem has stride 2, so an epoch takes seconds on a CPU.

    width: channels of the stem. blocks: for each residual block, the factor from its input channels to its output
    channels, and its stride.
    """
    stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    for times, stride in blocks:
        layers.append(_Block(width, width := times * width, stride))
    body = nn.Sequential(*layers, Average())
    _draw(body)
    return Encoder(body, width)


def _wide(depth: int, widen: int) -> Encoder:
    """Return the wide ResNet WRN-depth-widen (Zagoruyko and Komodakis 2016) for images of about 32 pixels.

    As in their code, without dropout: pre-activation blocks (BatchNorm and ReLU first) in three stages, with 16, 32
    and 64 channels times `widen`.
    """
    blocks: list[nn.Module] = []
    width = 16
    for stage in range(3):
        out = 16 * 2**stage * widen
        for number in range((depth - 4) // 6):
            blocks.append(_WideBlock(width, out, stride=2 if stage and not number else 1))
            width = out
    stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    body = nn.Sequential(stem, *blocks, nn.BatchNorm2d(width), nn.ReLU(inplace=True), Average())
    _draw(body)
    return Encoder(body, width)


def _alexnet(width: int) -> Encoder:
    """Return the five convolutions of an AlexNet for small images, with the mean over the image as representation.

    The layout follows Wang and Isola 2020's code for STL-10 (recalled from memory, and read in code that adopted it): 3
    x 3 convolutions with BatchNorm, and max-pooling after layers 1, 2 and 5. Their first layer has 96 channels. Their
    fully connected layers are omitted. There is no standard AlexNet for 32 pixels.
    width: channels of the first layer.
    """
    layers: list[nn.Module] = []
    channels = 3
    for number, times in enumerate((1, 2, 4, 4, 2), 1):
        conv = nn.Conv2d(channels, channels := times * width, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        if number in (1, 2, 5):
            layers.append(nn.MaxPool2d(3, 2))
    body = nn.Sequential(*layers, Average())
    _draw(body)
    return Encoder(body, channels)


def _draw(body: nn.Module) -> None:
    """Initialize the weights of all convolutions as in He et al. 2015."""
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Average(nn.Module):
    """Global average pooling, (B, C, H, W) -> (B, C), with a gradient in channels-last layout.

    The gradient of torch's own pooling comes back in channels-first layout, and the layer before it, which computes in
    channels-last, would have to transpose it.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


class _Block(nn.Module):
    """The basic residual block of He et al. 2016."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or width != out:
            self.skip = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(h)) + self.skip(x), inplace=True)


class _WideBlock(nn.Module):
    """The pre-activation residual block; where the width changes, the skip connection starts after norm and ReLU."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(width, out, 1, stride, bias=False) if width != out else None

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x), inplace=True)
        skipped = x if self.skip is None else self.skip(h)
        out: Tensor = skipped + self.conv2(F.relu(self.norm2(self.conv1(h)), inplace=True))
        return out


def _torchvision(name: str, stem: str) -> Encoder:
    """Return a ResNet of torchvision without its classifier, with the stem for CIFAR or ImageNet images."""
    import torchvision.models

    body = getattr(torchvision.models, name)()
    dim = body.fc.in_features
    body.fc = nn.Identity()
    body.avgpool = Average()
    if stem == "cifar":
        body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
        body.maxpool = nn.Identity()
    return Encoder(body, dim)
