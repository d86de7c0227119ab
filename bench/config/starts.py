"""The weights that a recipe's encoder starts from, `backbone.checkpoint`: which file it is, and what it holds."""

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from twoview.bench.config.recipe import Recipe
from twoview.bench.runtime.progress import console
from twoview.methods import checkpoint, weights
from twoview.methods.backbones import Backbone
from twoview.methods.encoder import Encoder
from twoview.methods.key_layouts import convert, in_torchvision
from twoview.methods.timm_models import TIMM, head_keys
from twoview.methods.vit import ViT


def randomly_started(recipe: Recipe[Any]) -> Recipe[Any]:
    """Return the recipe without `backbone.checkpoint`, for a method whose weights do not matter or are loaded next."""
    plain = recipe.backbone.model_copy(update={"checkpoint": "", "sha256": ""})
    return recipe.model_copy(update={"backbone": plain})


def pinned(recipe: Recipe[Any], earlier: Recipe[Any] | None = None) -> Recipe[Any]:
    """Return the recipe with the SHA-256 of the file in `backbone.checkpoint`, unless it has none or states it itself.

    earlier: the recipe of the run to resume. A resumed run does not read the weights, so the file may be gone: its hash
    is then the earlier one if its path is.
    Raises FileNotFoundError, naming the file, if the hash is not known otherwise.
    """
    mine = recipe.backbone
    if not mine.checkpoint or mine.sha256:
        return recipe
    path = Path(mine.checkpoint)
    gone = earlier and earlier.backbone.checkpoint == mine.checkpoint and not path.exists()
    found = earlier.backbone.sha256 if earlier and gone else _hash_of(path)
    return recipe.model_copy(update={"backbone": mine.model_copy(update={"sha256": found})})


def content(backbone: Backbone) -> Any:
    """Return the content of the file in `backbone.checkpoint`.

    Raises FileNotFoundError if it does not exist; ValueError if it cannot be read, or if its hash is not
    `backbone.sha256`. Both name the key and the file.
    """
    path = Path(backbone.checkpoint)
    if backbone.sha256 and (found := _hash_of(path)) != backbone.sha256:
        raise ValueError(f"backbone.checkpoint: the SHA-256 of {path} must be {backbone.sha256}, got {found}")
    try:
        return weights.read(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"backbone.checkpoint: {error}") from None


def converted(content: Any, encoder: Encoder, backbone: Backbone) -> dict[str, Tensor]:
    """Return the weights in another library's file, or in an exported one, by the names that the encoder gives them.

    What the file holds besides the encoder, such as its head, is ignored, and a message says so.
    Raises ValueError, naming the key and the file, if a name is unexpected, or if the file's network is another one.
    """
    path, body = Path(backbone.checkpoint), encoder.body
    own = body.state_dict().keys()
    heads = head_keys(backbone.name.removeprefix(TIMM)) if backbone.name.startswith(TIMM) else ()
    try:
        tensors, layout, ignored = convert(content, path, None, own, heads)
    except ValueError as error:
        raise ValueError(f"backbone.checkpoint: {error}") from None
    if ignored:
        more = f" and {len(ignored) - 1} more" if len(ignored) > 1 else ""
        console.print(f"{path}: ignored what is not of the encoder: {ignored[0]}{more}", markup=False)
    if isinstance(encoder, ViT):
        names = {in_torchvision(key): key for key in (*own, "pos_embed")}
        tensors = {names.get(key, key): tensor for key, tensor in tensors.items()}
        if "pos_embed" not in own:  # these positions are fixed and need no loading, but others would be other inputs
            _check_positions(tensors.pop("pos_embed", None), encoder.body.pos_embed, path)
    stem = getattr(body, "conv1", None)
    if isinstance(stem, nn.Conv2d) and stem.kernel_size == (3, 3) and stem.padding != (layout.cifar_padding,) * 2:
        raise ValueError(
            f"backbone.checkpoint: the first convolution of {path} must pad by {stem.padding[0]} as that of "
            f"{backbone.name} does, but its code base pads by {layout.cifar_padding}"
        )
    return tensors


def fill(encoder: Encoder, tensors: dict[str, Tensor], recipe: Recipe[Any]) -> None:
    """Load the weights into the encoder.

    Raises ValueError, naming the file and the key, if one is missing, unexpected, of another shape or not finite.
    """
    try:
        weights.fill(encoder.body, tensors)
    except ValueError as error:
        raise ValueError(
            f"backbone.checkpoint: {recipe.backbone.checkpoint} does not fit {recipe.backbone.name} for images of "
            f"{recipe.size} pixels: {error}"
        ) from None


def _check_positions(theirs: Tensor | None, fixed: Tensor, path: Path) -> None:
    """Raise ValueError if a file holds other positions than the fixed ones of the encoder."""
    if theirs is not None and not (theirs.shape == fixed.shape and theirs.allclose(fixed, atol=1e-5)):
        raise ValueError(
            f"backbone.checkpoint: the pos_embed in {path} must hold the positions of backbone.positions = sincos, of "
            f"shape {tuple(fixed.shape)}, got other ones of shape {tuple(theirs.shape)}"
        )


def _hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises FileNotFoundError, or ValueError if it is too large."""
    try:
        checkpoint.check_size(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"backbone.checkpoint: {error}") from None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
