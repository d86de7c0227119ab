"""Translation of key names in checkpoints of other code bases, and in our exports, to torchvision's and timm's.

Unexpected and missing keys are errors.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from twoview.loaders.names import look_up
from twoview.methods.checkpoint import KEY

# Names that torch's wrappers add to keys: DataParallel and DistributedDataParallel, torch.compile, FSDP, and activation
# checkpointing.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Index of a child in a Sequential of a torchvision ResNet's children -> the child's name in torchvision.
INDEXED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
# Part of a key of a timm ViT's block -> that part in torchvision's.
_IN_TORCHVISION_BLOCKS = {
    "norm1.": "ln_1.",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj.": "self_attention.out_proj.",
    "norm2.": "ln_2.",
    "mlp.fc1.": "mlp.0.",
    "mlp.fc2.": "mlp.3.",
}
# Beginning of any other key of a timm ViT -> that beginning in torchvision's.
_IN_TORCHVISION = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj.": "conv_proj.",
    "norm.": "encoder.ln.",
}


@dataclass(frozen=True)
class Layout:
    """Where a code base keeps the encoder's tensors in its checkpoints, and how their keys are named.

    Keys are compared without the names in WRAPPERS. No key of the encoder itself is ignored.
    source: the files from which the key names were read. at: possible paths of dictionary keys to the tensors.
    prefixes: possible prefixes of the encoder's keys. heads: prefixes of ignored keys, after a prefix of the encoder.
    others: prefixes of other ignored keys. inner: name of a module around the encoder, which is removed from keys.
    indexed: whether a ResNet may be a Sequential of torchvision's children, whose names are numbers. cifar_padding:
    padding of a ResNet's 3x3 stem for CIFAR.
    """

    source: str
    at: tuple[tuple[str, ...], ...]
    prefixes: tuple[str, ...] = ("",)
    heads: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    inner: str = ""
    indexed: bool = False
    cifar_padding: int = 1


class Converted(NamedTuple):
    """What a file holds.

    tensors: the encoder's, by torchvision's or timm's key names. layout: the layout of the file. ignored: the keys of
    tensors that are not the encoder's, such as those of its head, as the file names them.
    """

    tensors: dict[str, Tensor]
    layout: Layout
    ignored: list[str]


# Name of a layout, as `--layout` takes it -> the layout.
LAYOUTS = {
    "solo-learn": Layout(
        "solo/methods/base.py and solo/methods/*.py of vturrisi/solo-learn, where older versions say encoder",
        at=(("state_dict",),),
        prefixes=("backbone.", "encoder."),
        others=(
            *(
                "projector.",
                "predictor.",
                "classifier.",
                "prototypes.",
                "queue",
                "head.",
                "decoder.",
                "dino_loss_func.",
            ),
            *("momentum_backbone.", "momentum_encoder.", "momentum_projector.", "momentum_classifier."),
            *("momentum_head.", "momentum_predictor."),
        ),
        cifar_padding=2,
    ),
    "lightly": Layout(
        "benchmarks/imagenet of lightly-ai/lightly, and lightly.models.modules",
        at=(("state_dict",), ()),
        prefixes=("backbone.",),
        heads=("mask_token",),
        others=(
            *("projection_head.", "prediction_head.", "online_classifier.", "criterion.", "prototypes.", "decoder."),
            *("backbone_momentum.", "projection_head_momentum.", "teacher_backbone.", "teacher_projection_head."),
            *("query_backbone.", "key_backbone.", "mask_token"),
        ),
        inner="vit.",
        indexed=True,
    ),
    "vissl": Layout(
        "vissl/models/trunks/resnext.py and extra_scripts/convert_vissl_to_torchvision.py of facebookresearch/vissl",
        at=(("classy_state_dict", "base_model", "model", "trunk"), ("model_state_dict",), ()),
        prefixes=("_feature_blocks.",),
    ),
    "msn": Layout(
        "src/deit.py, src/msn_train.py and linear_eval.py (which reads the target encoder) of facebookresearch/msn",
        at=(("target_encoder",),),
        heads=("fc.", "pred."),
    ),
    "mae": Layout(
        "models_mae.py and main_linprobe.py of facebookresearch/mae",
        at=(("model",),),
        others=("decoder_", "mask_token", "head."),
    ),
    "moco": Layout(
        "moco/builder.py and main_lincls.py of facebookresearch/moco",
        at=(("state_dict",),),
        prefixes=("encoder_q.",),
        heads=("fc.",),
        others=("encoder_k.", "queue"),
    ),
    "moco-v3": Layout(
        "main_lincls.py and moco/builder.py of facebookresearch/moco-v3",
        at=(("state_dict",),),
        prefixes=("base_encoder.",),
        heads=("fc.", "head."),
        others=("momentum_encoder.", "predictor."),
    ),
    "plain": Layout(
        "torchvision.models and timm themselves, src/resnet50.py of facebookresearch/swav, torch's AveragedModel",
        at=((), ("state_dict",)),
        heads=("fc.", "head.", "heads.", "classifier.", "projection_head.", "prototypes."),
        others=("n_averaged",),
    ),
    "twoview": Layout("methods/encoder.py, as bench/export writes it", at=((),), prefixes=("body.",)),
}


def convert(
    content: Any, file: Path, name: str | None, own: Collection[str] = (), heads: Collection[str] = ()
) -> Converted:
    """Return the encoder's tensors by torchvision's or timm's key names, the layout of the file, and the ignored keys.

    content: content of the file, as torch loaded it. name: name of the layout; None to recognize it. own: the keys of
    the encoder, if they are known. heads: the keys of its classification head, besides those that the layout names.
    Raises ValueError, naming the file and the key, if a key is unexpected, or if no layout or several layouts fit.
    """
    tried = LAYOUTS if name is None else {name: look_up("layout", name, LAYOUTS)}
    found = {key: _read(content, layout, own, heads) for key, layout in tried.items()}
    there = {key: one for key, one in found.items() if one.tensors}
    if len(there) > 1:
        there.pop("plain", None)  # it has no prefix and so fits too easily
    fitting = [key for key, one in there.items() if not one.left]
    if len(fitting) > 1:
        raise ValueError(
            f"{file}: its keys fit the layouts {' and '.join(fitting)}: choose one with --layout, or keep the heads, "
            "whose keys differ"
        )
    if not fitting and there:
        nearest = min(there, key=lambda key: len(there[key].left))
        raise ValueError(
            f"{file}: {there[nearest].left[0]} is unexpected: in layout {nearest} neither the encoder nor a head has "
            "this key"
        )
    if not fitting:
        raise ValueError(f"{file} contains no encoder with the key names of {name or ', '.join(LAYOUTS)}")
    return Converted(there[fitting[0]].tensors, LAYOUTS[fitting[0]], there[fitting[0]].ignored)


def in_torchvision(key: str) -> str:
    """Return the name that torchvision gives to a weight of a timm ViT."""
    first, _, rest = key.partition(".")
    if first == "blocks":
        number, _, inside = rest.partition(".")
        start = next(start for start in _IN_TORCHVISION_BLOCKS if inside.startswith(start))
        inside = _IN_TORCHVISION_BLOCKS[start] + inside.removeprefix(start)
        return f"encoder.layers.encoder_layer_{number}.{inside}"
    start = next(start for start in _IN_TORCHVISION if key.startswith(start))
    return _IN_TORCHVISION[start] + key.removeprefix(start)


class _Parts(NamedTuple):
    """The encoder's tensors by their new names, the unexpected keys, and the ignored ones; empty without a fit."""

    tensors: dict[str, Tensor]
    left: list[str]
    ignored: list[str]


def _read(content: Any, layout: Layout, own: Collection[str], heads: Collection[str]) -> _Parts:
    """Return the parts of a file in this layout."""
    for words in layout.at:
        state = content
        for word in words:
            state = state.get(word) if isinstance(state, Mapping) else None
        if not isinstance(state, Mapping):
            continue
        if not all(isinstance(key, str) and len(key) <= KEY and isinstance(state[key], Tensor) for key in state):
            continue
        bare = {key: _unwrapped(key) for key in state}
        for prefix in layout.prefixes:
            parts = _Parts({}, [], [])
            for key, tensor in state.items():
                if bare[key].startswith(layout.others) and bare[key] not in own:
                    parts.ignored.append(key)
                    continue
                if not bare[key].startswith(prefix):
                    parts.left.append(key)
                    continue
                inside = bare[key].removeprefix(prefix)
                name = _renamed(inside.removeprefix(layout.inner), layout)
                if name not in own and (inside.startswith(layout.heads) or name in heads):
                    parts.ignored.append(key)
                    continue
                if name in parts.tensors:
                    parts.left.append(key)
                parts.tensors[name] = tensor
            if parts.tensors:
                return parts
    return _Parts({}, [], [])


def _unwrapped(key: str) -> str:
    """Return the key without the names of wrappers anywhere in the network."""
    return ".".join(word for word in key.split(".") if word not in WRAPPERS)


def _renamed(key: str, layout: Layout) -> str:
    """Return the key with the number of a ResNet's child replaced by its name, if the layout has such numbers."""
    first, dot, rest = key.partition(".")
    return INDEXED.get(first, first) + dot + rest if layout.indexed else key
