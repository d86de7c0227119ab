"""How torchvision and timm build a backbone of ours, and how they name its weights."""

from typing import Literal, NamedTuple

from torch import Tensor

from twoview.methods.backbones import Backbone
from twoview.methods.encoder import Encoder
from twoview.methods.key_layouts import in_torchvision
from twoview.methods.timm_models import TIMM, settings_for
from twoview.methods.vit import VITS, ViT

Library = Literal["torchvision", "timm", "twoview"]
RESNETS = ("resnet18", "resnet34", "resnet50")


class Architecture(NamedTuple):
    """An encoder as a library builds it.

    imports: the Python lines that import the library. code: the Python lines that build the variable `encoder`, with
    random weights. weights: a state dict that this encoder loads with `strict=True`.
    """

    imports: tuple[str, ...]
    code: tuple[str, ...]
    weights: dict[str, Tensor]


def library_for(backbone: Backbone) -> Library:
    """Return the library whose key names other code most probably reads: torchvision for its ResNets, timm for ViTs."""
    if backbone.name in RESNETS:
        return "torchvision"
    return "timm" if backbone.name in VITS or backbone.name.startswith(TIMM) else "twoview"


def architecture(encoder: Encoder, backbone: Backbone, size: int, library: Library) -> Architecture:
    """Return the encoder as `library` builds it.

    encoder: the trained encoder, which `backbone` describes. size: side of its images in pixels.
    Raises ValueError if the library has no such network.
    """
    if library == "twoview":
        return _own(encoder, backbone, size)
    if backbone.name in RESNETS:
        return _resnet(encoder, backbone.name, backbone.stem, library)
    if backbone.name.startswith(TIMM):
        return _of_timm(encoder, backbone.name, size, library)
    if backbone.name not in VITS:
        raise ValueError(f"--keys must be twoview for {backbone.name}, which {library} does not have, got {library}")
    assert isinstance(encoder, ViT)
    return _timm_vit(encoder, backbone, size) if library == "timm" else _torchvision_vit(encoder, backbone, size)


def _own(encoder: Encoder, backbone: Backbone, size: int) -> Architecture:
    kept = backbone.model_dump(exclude={"checkpoint", "sha256"})
    settings = ", ".join(f"{key}={value!r}" for key, value in kept.items())
    imports = ("from twoview.methods.backbones import Backbone, build",)
    return Architecture(imports, (f"encoder = build(Backbone({settings}), {size})",), encoder.state_dict())


def _of_timm(encoder: Encoder, name: str, size: int, library: Library) -> Architecture:
    """Return a model of timm. Raises ValueError for torchvision, unless it is a ResNet, which both build alike."""
    model = name.removeprefix(TIMM)
    if library == "torchvision":
        if model not in RESNETS:
            raise ValueError(
                f"--keys must be timm or twoview for {name}, which torchvision builds differently or lacks"
            )
        return _resnet(encoder, model, "imagenet", library)
    options = {"num_classes": 0, **settings_for(name, size).options}
    written = ", ".join(f"{key}={value}" for key, value in options.items())
    code = f'encoder = timm.create_model("{model}", {written})'
    return Architecture(("import timm",), (code,), encoder.body.state_dict())


def _resnet(encoder: Encoder, name: str, stem: str, library: Library) -> Architecture:
    """Return a ResNet. torchvision and timm name its weights alike."""
    if library == "torchvision":
        imports = ("import torchvision",)
        code = [f"encoder = torchvision.models.{name}()", "encoder.fc = torch.nn.Identity()"]
    else:
        imports = ("import timm",)
        code = [f'encoder = timm.create_model("{name}", num_classes=0)']
    if stem == "cifar":
        code.append("encoder.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)")
        code.append("encoder.maxpool = torch.nn.Identity()")
    return Architecture(imports, tuple(code), encoder.body.state_dict())


def _timm_vit(encoder: ViT, backbone: Backbone, size: int) -> Architecture:
    shape = VITS[backbone.name]
    settings: dict[str, object] = {"img_size": size, "patch_size": backbone.patch, "num_classes": 0}
    name = backbone.name.replace("-", "_")
    if backbone.name == "vit-mini":  # timm has none that small
        name = "vit_tiny"
        settings |= {"embed_dim": shape.width, "depth": shape.depth, "num_heads": shape.heads}
    if backbone.pool == "mean":
        settings |= {"global_pool": "avg", "fc_norm": False}  # the norm comes before the mean, as here
    written = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    code = f'encoder = timm.create_model("{name}_patch16_224", {written})'
    return Architecture(("import timm",), (code,), _timm_weights(encoder))


def _timm_weights(encoder: ViT) -> dict[str, Tensor]:
    """Return the weights by timm's names, with fixed positions too, which timm has as a parameter."""
    return {**encoder.body.state_dict(), "pos_embed": encoder.body.pos_embed.detach()}


def _torchvision_vit(encoder: ViT, backbone: Backbone, size: int) -> Architecture:
    """Return a ViT as torchvision's class builds it. Raises ValueError for the mean of tokens, which it cannot take."""
    if backbone.pool == "mean":
        raise ValueError("--keys must be timm or twoview for a ViT with pool = mean: torchvision's takes class tokens")
    shape = VITS[backbone.name]
    code = (
        "encoder = torchvision.models.VisionTransformer(",
        f"    image_size={size},",
        f"    patch_size={backbone.patch},",
        f"    num_layers={shape.depth},",
        f"    num_heads={shape.heads},",
        f"    hidden_dim={shape.width},",
        f"    mlp_dim={4 * shape.width},",
        ")",
        "encoder.heads = torch.nn.Identity()",
    )
    weights = {in_torchvision(key): tensor for key, tensor in _timm_weights(encoder).items()}
    return Architecture(("import torchvision",), code, weights)
