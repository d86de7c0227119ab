"""MSN: assign a partly masked view to the same prototypes as an unmasked view of its image (Assran et al. 2022)."""

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
TARGET, RANDOM, FOCAL = 0, 1, 2  # the numbers of the views; all views from FOCAL on are focal views


class MSNOptions(ProjectorOptions):
    """The `[method]` table of MSN. The defaults are those of the official code's ViT-S/16 configuration."""

    name: Literal["msn"] = "msn"
    hidden: Width = 2048  # width of the projector's hidden layers
    projection: Width = 256  # width of the projector's output and of a prototype
    layers: Repeats = 3  # number of the projector's linear layers
    prototypes: Width = 1024  # K, the number of prototypes
    frozen_prototypes: bool = False  # whether prototypes keep their random initial values, as in lightly's benchmarks
    temperature: PositiveFloat = 0.1  # tau, the temperature of the assignments
    sharpening: Annotated[float, Field(gt=0, le=1)] = 0.25  # T, which sharpens the target's assignment p to p^(1/T)
    sinkhorn: Iterations = 3  # Sinkhorn iterations that balance the targets over a batch; 0 does not balance them
    weight: NonNegativeFloat = 1.0  # lambda, the weight of the divergence of mean assignment and prior (me-max)
    entropy_weight: NonNegativeFloat = 0.0  # weight of the mean entropy of the assignments
    divergence: Divergence = "to-prior"  # to-prior: KL(mean assignment, prior); from-prior: KL(prior, mean assignment)
    focal_views: Iterations = 10  # focal views per image, which the encoder sees in addition to the random view
    patch_drop: Drop = 0.15  # share of the random view's patches hidden from the encoder; above 0 it must be a ViT
    drop_focal: bool = False  # whether focal views lose the same share of patches, as in lightly's benchmarks
    momentum: Share = 0.996  # momentum of the target network's moving average at the first step
    final_momentum: Share = 1.0  # momentum at the end of a linear rise
    momentum_stretch: Annotated[float, Field(ge=1)] = 1.25  # the rise is planned for this many times the run's length


class MSN(Method):
    """Assigns several views of an image, some of them masked, to the same prototypes as its whole target view.

    The recipe's first three views are the target, the random view and the focal view, which is drawn several times.
    The target network, a moving average, sees the whole target view. The encoder sees the other views: the kept patches
    of the random view in one forward pass, all focal views in another, so that BatchNorm in the projector never mixes
    sizes. The official code does the same. As there, only the random view loses patches by default. In the official
    code, all images of a batch lose the same patches; here each image loses its own.
    Probes evaluate the target network's encoder, as the official evaluation and lightly's benchmarks do.

    The method logs the terms of the loss and the entropy of the mean assignment, which is log K if all prototypes are
    used equally and 0 if all images have collapsed onto one prototype.
    """

    takes = 3
    default_views = "msn"
    needs_vit = True  # because of the default patch_drop
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
                f"{options.name} takes a target, a random and a focal view, but the recipe has {len(views)} views"
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
        """Return the projections of views of one size, (V * B, d), view after view, from one forward pass.

        masks: the numbers of the kept patches of each view, int64 (B, K) each; if empty, all patches are used.
        """
        kept = (torch.cat(masks),) if masks else ()
        out: Tensor = self.projector(self.encoder(torch.cat(views), *kept))
        return out

    @property
    def averaged(self) -> nn.Module:
        """See `Method.averaged`."""
        return self.target[0]

    @property
    def probed(self) -> nn.Module:
        return self.averaged

    def prior(self, label: Tensor) -> Tensor:
        """Return the share of the images that each prototype should get, (K,)."""
        return self.uniform

    def marginal(self, prior: Tensor) -> Tensor:
        """Return the share of the targets that Sinkhorn gives each prototype, (K,)."""
        return prior

    def after_step(self, progress: float) -> None:
        o = self.options
        # From momentum to final_momentum along a line that is momentum_stretch times as long as the run.
        momentum = o.momentum + (o.final_momentum - o.momentum) * progress / o.momentum_stretch
        ema.follow(self.target, nn.Sequential(self.encoder, self.projector), momentum)
