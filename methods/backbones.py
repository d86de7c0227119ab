"""Backbones: images -> representations."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch.nn.functional as F
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn

from twoview.methods.encoder import Encoder
from twoview.methods.settings import Repeats, Settings, Side, Width
from twoview.methods.vit import VITS, ViT

WIDE = "wide-resnet"
ONLY = {  # keys that are some backbones' alone: theirs in words, and by name
    **dict.fromkeys(("patch", "positions", "drop_path"), ("ViTs", tuple(VITS))),
    **dict.fromkeys(("depth", "widen"), (WIDE, (WIDE,))),
}


class Backbone(Settings):
    """The `[backbone]` table of a recipe."""

    name: Literal[
        "resnet-tiny",
        "resnet-small",
        "resnet18",
        "resnet34",
        "resnet50",
        "wide-resnet",
        "alexnet",
        "vit-mini",
        "vit-tiny",
        "vit-small",
        "vit-base",
    ] = "resnet-small"  # ours for a CPU, torchvision's, two for 32 pixels, or a ViT of timm's blocks
    stem: Literal["cifar", "imagenet"] = "cifar"  # of torchvision's: 3x3 and no pooling, or 7x7, stride 2 and pooling
    width: Width = 32  # channels of the stem of resnet-tiny and resnet-small, of alexnet's first layer (published: 96)
    depth: Annotated[Repeats, Field(ge=10)] = 34  # of wide-resnet: its layers, 6 n + 4 for n blocks a stage
    widen: Repeats = 5  # of wide-resnet: how many times as wide as the first ResNets for CIFAR
    patch: Side = 16  # of a ViT: side of a patch in pixels
    positions: Literal["learned", "sincos"] = "learned"  # of a ViT: of its patches; sincos are fixed
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of a ViT: chance that the last block is skipped

    @field_validator("depth")
    @classmethod
    def _of_whole_blocks(cls, depth: int) -> int:
        if (depth - 4) % 6:
            raise ValueError(f"must be 6 n + 4, got {depth}")
        return depth

    @model_validator(mode="after")
    def _keys_of_its_own(self) -> Self:
        for key, (whose, names) in ONLY.items():
            if self.name not in names and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is for {whose} alone, not for {self.name}")
        return self

    @model_serializer(mode="wrap")
    def _told(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of some alone are told of these only, so that records of other backbones stay comparable with older
        ones.
        """
        return {key: value for key, value in values(self).items() if key not in ONLY or self.name in ONLY[key][1]}


def build(backbone: Backbone, size: int = 224) -> Encoder:
    """An encoder with fresh weights, from torch's global generator. size: of its images, for a ViT's positions."""
    if backbone.name in VITS:
        return ViT(*VITS[backbone.name], backbone.patch, size, backbone.positions, backbone.drop_path)
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
    """A ResNet for about 32 pixels whose stem has stride 2: an epoch is seconds on a CPU.

    width: channels of the stem. blocks: of each residual block, how many times as many channels go out as come in, and
    its stride.
    """
    stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    for times, stride in blocks:
        layers.append(_Block(width, width := times * width, stride))
    body = nn.Sequential(*layers, Average())
    _draw(body)
    return Encoder(body, width)


def _wide(depth: int, widen: int) -> Encoder:
    """WRN-depth-widen of Zagoruyko and Komodakis 2016 for about 32 pixels, as in their code, without dropout: blocks
    that begin with norm and ReLU, in three stages of 16, 32 and 64 channels times `widen`.
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
    """conv 1 to 5 of an AlexNet for small images, in the layout of Wang and Isola 2020's code for STL-10 (recalled, and
    read in codes that took it over): 3 x 3 everywhere, BatchNorm, pooling behind 1, 2 and 5; 96 channels in the first
    layer. There is no one AlexNet for 32 pixels. Their fully connected layers are left out: the mean over the image is
    the representation.
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
    """Draws the weights of all convolutions as He et al. 2015 do."""
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Average(nn.Module):
    """(B, C, H, W) -> (B, C), the mean over the image. The gradient of torch's own pooling to one pixel comes back with
    its channels first, and the layer before it has to transpose it; this one's has them last.
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
    """The residual block with norm and ReLU first; where the width changes, the skip begins behind them too."""

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
