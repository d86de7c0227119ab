"""Key names of strangers' checkpoints -> those of torchvision and timm. A key too many or too few is an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from twoview.loaders.names import look_up
from twoview.methods.checkpoint import KEY

# Modules that torch puts around others, and so before their keys: DataParallel and DistributedDataParallel, a compiled
# module, FSDP, and checkpointed activations.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
INDEXED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


@dataclass(frozen=True)
class Layout:
    """source: where the key names are from. at: words on the way to the tensors, one way or another. Keys are meant
    without the names of WRAPPERS.

    prefixes: what stands before each key of the encoder, one or another. heads: beginnings, behind the prefix, of what
    is not of the encoder and may be there. others: the same of whole keys. inner: a module around the encoder.
    indexed: its ResNets may be torchvision's children in a Sequential, numbered. cifar_padding: of its 3x3 stem.
    """

    source: str
    at: tuple[tuple[str, ...], ...]
    prefixes: tuple[str, ...] = ("",)
    heads: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    inner: str = ""
    indexed: bool = False
    cifar_padding: int = 1


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
        heads=("fc.", "head.", "projection_head.", "prototypes."),
        others=("n_averaged",),
    ),
}


def convert(content: Any, file: Path, name: str | None) -> tuple[dict[str, Tensor], Layout]:
    """The encoder's tensors by torchvision's or timm's names, and the layout they came in.

    content: of the file, as torch loaded it. name: of the layout; None to find it out.
    ValueError, naming file and key, if a key is left over, or no layout fits, or several do.
    """
    tried = LAYOUTS if name is None else {name: look_up("layout", name, LAYOUTS)}
    found = {key: _read(content, layout) for key, layout in tried.items()}
    there = {key: (tensors, left) for key, (tensors, left) in found.items() if tensors}
    if len(there) > 1:
        there.pop("plain", None)  # it has no prefix to know it by
    fitting = [key for key, (_, left) in there.items() if not left]
    if len(fitting) > 1:
        raise ValueError(f"{file}: its keys are those of {' and of '.join(fitting)}: say which by --layout")
    if not fitting and there:
        nearest = min(there, key=lambda key: len(there[key][1]))
        left = there[nearest][1][0]
        raise ValueError(f"{file}: {left} is left over: it is neither of the encoder nor of a head of layout {nearest}")
    if not fitting:
        raise ValueError(f"{file}: holds no encoder by the key names of {name or ', '.join(LAYOUTS)}")
    return there[fitting[0]][0], LAYOUTS[fitting[0]]


def _read(content: Any, layout: Layout) -> tuple[dict[str, Tensor], list[str]]:
    """The encoder's tensors by their new names, and the keys that are left over; none where the layout is another."""
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
            tensors: dict[str, Tensor] = {}
            left = []
            for key, tensor in state.items():
                name = bare[key]
                if name.startswith(layout.others):
                    continue
                if not name.startswith(prefix):
                    left.append(key)
                elif not name.removeprefix(prefix).startswith(layout.heads):
                    name = _renamed(name.removeprefix(prefix).removeprefix(layout.inner), layout)
                    if name in tensors:
                        left.append(key)
                    tensors[name] = tensor
            if tensors:
                return tensors, left
    return {}, []


def _unwrapped(key: str) -> str:
    """Without the names of wrappers, wherever in the network they stand."""
    return ".".join(word for word in key.split(".") if word not in WRAPPERS)


def _renamed(key: str, layout: Layout) -> str:
    first, dot, rest = key.partition(".")
    return INDEXED.get(first, first) + dot + rest if layout.indexed else key
