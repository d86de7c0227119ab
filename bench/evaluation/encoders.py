"""Published encoders, loaded for the probes: `torchvision:NAME`, `timm:NAME` or `checkpoint:FILE`."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from twoview.loaders.errors import reason
from twoview.loaders.limits import NAME
from twoview.loaders.names import look_up
from twoview.methods import weights
from twoview.methods.key_layouts import Layout, convert
from twoview.methods.normalize import Normalize
from twoview.methods.probes.features import fingerprint
from twoview.methods.timm_models import check_known, head_keys

HEADS = ("fc.", "classifier.", "heads.", "head.")  # key prefixes of torchvision's classification heads
# Channel mean and standard deviation of ImageNet, for pixels from 0 to 1.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Published:
    """An encoder ready to be probed.

    name: its name in records, made of characters that a file name may have. module: maps normalized float (B, 3, H, W)
    to (B, dim), in eval mode, on the CPU. size: side of its training images, in pixels. normalize: the
    normalization of its training images; None if unknown, in which case the mean and standard deviation of the probed
    dataset are used. hash: SHA-256 of structure and weights, in hex. source: where the weights come from.
    """

    name: str
    module: nn.Module
    dim: int
    size: int
    normalize: Normalize | None
    hash: str
    source: str


def load(spec: str, arch: str | None = None, layout: str | None = None) -> Published:
    """Load the encoder that `spec` names.

    spec: torchvision:NAME, torchvision:NAME.WEIGHTS, timm:NAME or timm:NAME.WEIGHTS for the weights published there,
    which are downloaded unless they are on this machine already; checkpoint:FILE for any other file, which must be in
    the safetensors format, or written by torch.save with tensors and plain values only.
    arch: the architecture of the weights in that file, as torchvision:NAME or timm:NAME. layout: the code base with
    whose key names the file was written (see `twoview.methods.key_layouts`); recognized by default.
    Raises ValueError if the spec, architecture or layout is unknown, or if keys are missing or unexpected; OSError,
    naming the file, if the weights are not on this machine and cannot be downloaded.
    """
    kind, _, rest = spec.partition(":")
    if kind == "checkpoint" and rest:
        if arch is None:
            raise ValueError(f"{spec} needs --arch: torchvision:NAME or timm:NAME, the weights' architecture")
        return _from_checkpoint(Path(rest), arch, layout)
    if arch or layout:
        raise ValueError(f"--arch and --layout go with checkpoint:FILE, not with {spec}")
    if kind == "torchvision" and rest:
        return _from_torchvision(rest)
    if kind == "timm" and rest:
        return _from_timm(rest)
    raise ValueError(f"the encoder must be torchvision:NAME, timm:NAME or checkpoint:FILE, got {spec}")


@torch.no_grad()
def sized(encoder: Published, size: int) -> Published:
    """Return the encoder for another image side, in pixels. Raises ValueError if it cannot take images of this size."""
    try:
        dim = encoder.module(torch.zeros(1, 3, size, size)).flatten(1).shape[1]
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"{encoder.name} cannot take images of {size} pixels: {reason(error)}") from None
    return replace(encoder, size=size, dim=dim)


def _from_torchvision(name: str) -> Published:
    """Return torchvision's model with its published weights. name: NAME or NAME.WEIGHTS."""
    from torchvision import models

    arch, _, wanted = name.partition(".")
    module, _, _ = _built(f"torchvision:{arch}")
    known = models.get_model_weights(arch)
    chosen: Any = look_up(f"weights of {arch}", wanted, known.__members__) if wanted else known.DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(chosen.url).name
    try:
        state = chosen.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise OSError(f"torchvision:{name}: {_absent(str(file), chosen.url, error)}") from None
    weights.fill(module, {key: value for key, value in state.items() if not key.startswith(HEADS)})
    ready = chosen.transforms()
    return _published(
        f"torchvision-{arch}.{chosen.name}",
        module,
        ready.crop_size[0],
        Normalize(tuple(ready.mean), tuple(ready.std)),
        chosen.url,
    )


def _from_timm(name: str) -> Published:
    """Return timm's model with this name and its published weights."""
    import timm
    from timm.data.config import resolve_model_data_config

    _check_known(name)
    file = timm.get_pretrained_cfg(name)
    source = "any known address"
    if file and (file.hf_hub_id or file.url):
        source = f"huggingface.co/{file.hf_hub_id}" if file.hf_hub_id else str(file.url)
    try:
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises errors of many kinds, which change with its version
        raise OSError(f"timm:{name}: {_absent('its file', source, error)}") from None
    config: Any = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    normalize = Normalize(config["mean"], config["std"])
    return _published(f"timm-{name}", module, config["input_size"][-1], normalize, source)


def _absent(file: str, source: str, error: Exception) -> str:
    """Return the error text for weights that are not on this machine and cannot be downloaded."""
    first = str(error).partition("\n")[0]
    return (
        f"{file} is missing and cannot be downloaded from {source} ({first}): give a copy as "
        "checkpoint:FILE with --arch torchvision:NAME or timm:NAME"
    )


def _from_checkpoint(file: Path, arch: str, layout: str | None) -> Published:
    """Return the encoder in a file. A ResNet with a 3x3 stem is taken for a CIFAR network.

    CIFAR networks have images of 32 pixels and no known normalization.
    """
    content = weights.read(file)
    if weights.is_own(content):
        raise ValueError(f"{file} is a checkpoint of `twoview train`: give its path alone, without checkpoint:")
    module, size, resnet = _built(arch)
    kind, _, name = arch.partition(":")
    heads = head_keys(name) if kind == "timm" else ()
    tensors, found, _ = convert(content, file, layout, module.state_dict().keys(), heads)
    cifar = resnet and "conv1.weight" in tensors and tensors["conv1.weight"].shape[2:] == (3, 3)
    if cifar:
        _give_cifar_stem(module, found)
    try:
        weights.fill(module, tensors)
    except ValueError as error:
        raise ValueError(f"{file} does not fit {arch}: {error}") from None
    normalize = None if cifar else Normalize(*IMAGENET)
    return _published(f"checkpoint-{file.stem}", module, 32 if cifar else size, normalize, str(file))


def _built(arch: str) -> tuple[nn.Module, int, bool]:
    """Build torchvision:NAME or timm:NAME with newly drawn weights and without a classification head.

    Returns the module, the side of its images in pixels, and whether it is a ResNet.
    """
    kind, _, name = arch.partition(":")
    if kind == "timm":
        import timm

        _check_known(name)
        module: Any = timm.create_model(name, pretrained=False, num_classes=0)
        return module, module.default_cfg["input_size"][-1], isinstance(module, timm.models.ResNet)
    if kind == "torchvision":
        from torchvision import models

        look_up("model of torchvision", name, {one: one for one in models.list_models(module=models)})
        module = models.get_model(name, weights=None)
        head = next((word[:-1] for word in HEADS if hasattr(module, word[:-1])), None)
        if head is None:
            raise ValueError(f"torchvision:{name} must have a classification head that can be removed, got none")
        setattr(module, head, nn.Identity())
        return module, getattr(module, "image_size", 224), isinstance(module, models.ResNet)
    raise ValueError(f"--arch must be torchvision:NAME or timm:NAME, got {arch}")


def _check_known(name: str) -> None:
    """Raise ValueError, with the nearest known names, if timm has no such model.

    name: NAME or NAME.WEIGHTS. A name with a slash, such as hf-hub:OWNER/NAME, is on a hub, and is not checked.
    """
    if "/" not in name:
        check_known(name.partition(".")[0])


def _give_cifar_stem(module: nn.Module, layout: Layout) -> None:
    """Give a ResNet the usual CIFAR stem: a 3x3 convolution, whose padding depends on the layout, and no pooling."""
    out: int = module.conv1.out_channels  # type: ignore[union-attr, assignment]
    module.conv1 = nn.Conv2d(3, out, 3, padding=layout.cifar_padding, bias=False)
    module.maxpool = nn.Identity()


@torch.no_grad()
def _published(name: str, module: nn.Module, size: int, normalize: Normalize | None, source: str) -> Published:
    """Return the module as an encoder ready to be probed, after computing its width and hash."""
    module.eval()
    dim = module(torch.zeros(1, 3, size, size)).flatten(1).shape[1]
    content = fingerprint(module, normalize) if normalize else fingerprint(module)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", name)[: NAME.value]  # a user's file name may have any characters
    return Published(name, module, dim, size, normalize, content, source)
