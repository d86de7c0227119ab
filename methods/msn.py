"""MSN: a partly hidden view is assigned to the prototypes to which its whole image is assigned (Assran et al. 2022)."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from twoview.loaders.masks import Mask, view_mask
from twoview.loaders.views import View
from twoview.methods import ema
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions
from twoview.methods.losses.msn import EXAMPLES, Divergence, msn, targets
from twoview.methods.losses.priors import uniform
from twoview.methods.method import Method
from twoview.methods.settings import Iterations, Repeats, Width
from twoview.methods.vit import ViT, vit

Share = Annotated[float, Field(ge=0, le=1)]
Drop = Annotated[float, Field(ge=0, lt=1)]
TARGET, RANDOM, FOCAL = 0, 1, 2  # the views' numbers; from the last one on they are focal


class MSNOptions(ProjectorOptions):
    """The `[method]` table of MSN; the defaults are the official code's with its ViT-S/16 config."""

    name: Literal["msn"] = "msn"
    hidden: Width = 2048  # width of the projector's hidden layers
    projection: Width = 256  # width of its output, and of a prototype
    layers: Repeats = 3  # its linear layers
    prototypes: Width = 1024  # K
    frozen_prototypes: bool = False  # whether they stay as they were drawn, as in lightly's benchmarks
    temperature: PositiveFloat = 0.1  # tau, of the assignments
    sharpening: Annotated[float, Field(gt=0, le=1)] = 0.25  # T, of the target's
    sinkhorn: Iterations = 3  # iterations that balance the targets of a batch; 0: none
    weight: NonNegativeFloat = 1.0  # lambda, of the mean assignment's divergence from the prior: me-max
    entropy_weight: NonNegativeFloat = 0.0  # of the assignments' mean entropy
    divergence: Divergence = "to-prior"  # KL(mean assignment, prior), or from-prior: KL(prior, mean assignment)
    focal_views: Iterations = 10  # of each image; the encoder sees them, a random one and the target
    patch_drop: Drop = 0.15  # share of the random view's patches that the encoder does not see; above 0 it takes a ViT
    drop_focal: bool = False  # whether focal views lose as many, as in lightly's benchmarks
    momentum: Share = 0.996  # of the target network at the first step
    final_momentum: Share = 1.0  # at the end, along a straight line
    momentum_stretch: Annotated[float, Field(ge=1)] = 1.25  # that line is so many times the training, and cut off


class MSN(Method):
    """The recipe's first three views are the target's, the random one and the focal one, which is drawn several times.

    The target network, a moving average, sees the whole target view. The encoder sees the others: the random view's
    kept patches in one forward, all focal views in another, so that BatchNorm in the projector mixes no sizes; so it is
    in the official code, which drops patches of the random view alone. There, all images of a batch lose the same
    patches; here each loses its own. Probes see the target's encoder, as in the official evaluation and in lightly's
    benchmarks.

    Logs the loss's terms and the entropy of the mean assignment: log K while all prototypes are used, 0 once all images
    have collapsed onto one.
    """

    takes = 3
    default_views = "msn"
    needs_vit = True  # for its patch_drop
    examples = EXAMPLES
    exempt = ("prototypes",)

    def __init__(self, options: MSNOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        views = self.views_for(options, views)
        if isinstance(encoder, ViT) and (odd := [view.size for view in views if view.size % encoder.patch]):
            raise ValueError(
                f"{options.name}: a view of {odd[0]} pixels is not divisible into patches of {encoder.patch}"
            )
        patch = vit(encoder, f"{options.name} with patch_drop").patch if options.patch_drop else None
        super().__init__(encoder, views, self.masks_for(options, views, patch))
        self.options = options
        self.projector = options.projector(encoder.dim, activation=nn.GELU)
        self.target = ema.frozen_copy(nn.Sequential(encoder, self.projector))
        bound = 1 / math.sqrt(options.projection)
        drawn = torch.empty(options.prototypes, options.projection).uniform_(-bound, bound)
        self.prototypes = nn.Parameter(drawn, requires_grad=not options.frozen_prototypes)
        self.register_buffer("uniform", uniform(options.prototypes), persistent=False)
        self.uniform: Tensor

    @classmethod
    def views_for(cls, options: MSNOptions, views: tuple[View, ...]) -> tuple[View, ...]:
        if len(views) < cls.takes:
            raise ValueError(
                f"{options.name} takes a target, a random and a focal view, and the recipe's views are {len(views)}"
            )
        return (*views[:FOCAL], *[views[FOCAL]] * options.focal_views)

    @classmethod
    def masks_for(cls, options: MSNOptions, views: tuple[View, ...], patch: int | None) -> tuple[Mask, ...]:
        if not options.patch_drop or patch is None:
            return ()
        dropped = range(RANDOM, len(views) if options.drop_focal else FOCAL)
        return tuple(view_mask(views, view, patch, 1 - options.patch_drop) for view in dropped)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        o, prior = self.options, self.prior(label)
        with torch.no_grad():
            target = self.target(views[TARGET])
        target = targets(target, self.prototypes, self.marginal(prior), o.temperature, o.sharpening, o.sinkhorn)
        anchors = [self.project(views[RANDOM:FOCAL], masks[:1])]
        if o.focal_views:
            anchors.append(self.project(views[FOCAL:], masks[1:]))
        return msn(
            torch.cat(anchors).unflatten(0, (-1, len(label))),
            target,
            self.prototypes,
            prior,
            o.temperature,
            o.weight,
            o.entropy_weight,
            o.divergence,
        )

    def project(self, views: tuple[Tensor, ...], masks: tuple[Tensor, ...]) -> Tensor:
        """(V * B, d): views of one size, view after view, in one forward; of their kept patches if there are masks."""
        kept = (torch.cat(masks),) if masks else ()
        out: Tensor = self.projector(self.encoder(torch.cat(views), *kept))
        return out

    @property
    def probed(self) -> nn.Module:
        return self.target[0]

    def prior(self, label: Tensor) -> Tensor:
        """(K,): what share of the images each prototype is to have."""
        return self.uniform

    def marginal(self, prior: Tensor) -> Tensor:
        """(K,): what share of the targets each prototype gets of Sinkhorn."""
        return prior

    def after_step(self, progress: float) -> None:
        o = self.options
        momentum = o.momentum + (o.final_momentum - o.momentum) * progress / o.momentum_stretch
        ema.follow(self.target, nn.Sequential(self.encoder, self.projector), momentum)
