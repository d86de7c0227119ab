"""The interface between the trainer and a method: everything that the trainer needs from a method."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from twoview.loaders.masks import Mask
from twoview.loaders.views import View
from twoview.methods.accumulate import ByParts
from twoview.methods.losses.example import Example
from twoview.methods.settings import Settings


class Options(Settings):
    """The settings of a method, which are the `[method]` table of a recipe (the TOML file of an experiment).

    Each subclass fixes `name` and adds its own keys.
    """

    name: str


class Method(ByParts):
    """A way to train an encoder. A view is one augmented version of an image, or the settings it is drawn with.

    Attributes of the class, known before there is a network:
    takes: number of views that a recipe must have. default_views: name of the preset of views for 224 pixels that the
    method's source uses, or SimCLR's. needs_vit: whether the method, with its default options, works with a ViT only.
    examples: its losses by name, each in one setting. exempt: names of parameters without weight decay and gradient
    clipping (prototypes).

    Attributes of an instance:
    views: settings of the views that the loader makes of each image, in the order in which `loss` takes them.
    masks: settings of the masks (which patches of which views are kept) that the loader draws, in the order in which
    `loss` takes them.
    encoder: the network that is trained, (B, 3, H, W) -> (B, D). probed: the network that the probes evaluate, of the
    same shapes.
    """

    takes: int = 2
    default_views: str = "simclr-imagenet"
    needs_vit: bool = False
    examples: Mapping[str, Example] = {}
    exempt: tuple[str, ...] = ()

    def __init__(self, encoder: nn.Module, views: tuple[View, ...], masks: tuple[Mask, ...] = ()) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.masks = masks

    @classmethod
    def uses_labels(cls, options: Any) -> bool:
        """Return whether a method with these options learns from labels, as a reference for self-supervised ones."""
        return False

    @classmethod
    def views_for(cls, options: Any, views: tuple[View, ...]) -> tuple[View, ...]:
        """Return the `views` of a method with these options, each of them one of the recipe's `views`.

        Raises ValueError, naming the method, if it does not take the recipe's views.
        """
        if len(views) != cls.takes:
            raise ValueError(f"the recipe's number of views must be {cls.takes} for {options.name}, got {len(views)}")
        return views

    @classmethod
    def masks_for(cls, options: Any, views: tuple[View, ...], patch: Any) -> tuple[Mask, ...]:
        """Return the settings of the masks that the loader draws for a method with these options, or none.

        views: the method's `views`. patch: side of the encoder's patches in pixels, if the encoder is a ViT. Raises
        ValueError if the patches cannot be masked as the options say.
        """
        return ()

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        """Return the scalar `loss` and other scalars to log, by name.

        views: normalized float (B, 3, H, W) each. label: int64 (B,). masks: int64 (B, kept) each, the numbers of the
        patches kept, ascending.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Update moving averages and schedules. The trainer calls it after each optimizer step.

        progress: share of the run that is done, from 0 to 1.
        """

    @property
    def probed(self) -> nn.Module:
        """The network that the probes evaluate: the encoder, or whichever network the method's source evaluates."""
        return self.encoder

    @property
    def averaged(self) -> nn.Module | None:
        """The moving average of the encoder (momentum encoder or teacher), or None if the method has none."""
        return None

    def encode(self, x: Tensor) -> Tensor:
        """Return the representations (B, D) that the probes evaluate. x: normalized float (B, 3, H, W)."""
        out: Tensor = self.probed(x)
        return out
