"""What the trainer needs of a method, and all it needs."""

from torch import Tensor, nn

from twoview.loaders.masks import Mask
from twoview.loaders.views import View
from twoview.methods.settings import Settings


class Options(Settings):
    """A method's own settings, the `[method]` table of a recipe. Subclasses fix `name` and add what they have."""

    name: str


class Method(nn.Module):
    """A way to train an encoder.

    views: what the loader makes of each image, in the order in which `loss` takes them.
    masks: which patches of which views it draws; `loss` takes them behind the views.
    encoder: (B, 3, H, W) -> (B, D), what trains. probed: what stays when training is over, of the same shapes.
    apart: names of parameters that train beside the network, neither decayed nor clipped: prototypes.
    """

    masks: tuple[Mask, ...] = ()
    apart: tuple[str, ...] = ()

    def __init__(self, encoder: nn.Module, views: tuple[View, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views

    def loss(self, views: tuple[Tensor, ...], label: Tensor) -> dict[str, Tensor]:
        """views: a normalised float (B, 3, H, W) each, then the masks, int64 (B, kept) each: the numbers of the patches
        kept, ascending. label: int64 (B,). Returns `loss` and what is worth logging.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the share of training done, for moving averages and schedules."""

    @property
    def probed(self) -> nn.Module:
        """What the probes see: the encoder itself, or in its place what the method's source judges."""
        return self.encoder

    def encode(self, x: Tensor) -> Tensor:
        """x: normalised float (B, 3, H, W). Returns (B, D), what the probes see."""
        out: Tensor = self.probed(x)
        return out
