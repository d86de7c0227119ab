"""What the trainer needs of a method, and all it needs."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from twoview.loaders.masks import Mask
from twoview.loaders.views import View
from twoview.methods.losses.example import Example
from twoview.methods.settings import Settings


class Options(Settings):
    """A method's own settings, the `[method]` table of a recipe. Subclasses fix `name` and add what they have."""

    name: str


class Method(nn.Module):
    """A way to train an encoder.

    What is known of the class, before there is a network:
    takes: how many views a recipe must have. default_views: the preset of its source, or SimCLR's, for 224 pixels.
    needs_vit: whether it takes a ViT only, by its default options. uses_labels: whether it learns from labels, whatever
    its options, as a reference beside self-supervised methods. examples: its losses by name, each in one setting.

    What a method has:
    views: what the loader makes of each image, in the order in which `loss` takes them.
    masks: which patches of which views the loader draws, in the order in which `loss` takes them.
    encoder: (B, 3, H, W) -> (B, D), what trains. probed: what stays when training is over, of the same shapes.
    exempt: names of parameters that are neither decayed nor clipped: prototypes.
    """

    takes: int = 2
    default_views: str = "simclr-imagenet"
    needs_vit: bool = False
    uses_labels: bool = False
    examples: Mapping[str, Example] = {}
    exempt: tuple[str, ...] = ()

    def __init__(self, encoder: nn.Module, views: tuple[View, ...], masks: tuple[Mask, ...] = ()) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.masks = masks

    @classmethod
    def views_for(cls, options: Any, views: tuple[View, ...]) -> tuple[View, ...]:
        """The `views` of a method of these options, from those of a recipe.

        ValueError, naming the method, where the recipe's are not those that it takes.
        """
        if len(views) != cls.takes:
            raise ValueError(f"the recipe's views must be {cls.takes} for {options.name}, got {len(views)}")
        return views

    @classmethod
    def masks_for(cls, options: Any, views: tuple[View, ...], patch: Any) -> tuple[Mask, ...]:
        """The `masks` of a method of these options, of the `views` that it has.

        patch: side of the patches in pixels, of an encoder that is a ViT. ValueError for patches that cannot be masked.
        """
        return ()

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        """views: a normalized float (B, 3, H, W) each. label: int64 (B,). masks: int64 (B, kept) each, the numbers of
        the patches kept, ascending. Returns `loss` and what is worth logging.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimizer step with the share of training done, for moving averages and schedules."""

    @property
    def probed(self) -> nn.Module:
        """What the probes see: the encoder itself, or in its place what the method's source judges."""
        return self.encoder

    def encode(self, x: Tensor) -> Tensor:
        """x: normalized float (B, 3, H, W). Returns (B, D), what the probes see."""
        out: Tensor = self.probed(x)
        return out
