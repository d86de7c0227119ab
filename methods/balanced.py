"""Balanced contrastive learning: separate weights for attraction and repulsion, and debiased prototypes (Lee 2025).

The paper's formulas could not be read. The loss is inferred from descriptions of it. How a prototype is debiased, what
the oracle does, the norm of the bias and the use of a class prior are this project's proposals (`losses/balanced.py`).
"""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions
from twoview.methods.losses.balanced import (
    EXAMPLES,
    Similarity,
    balanced,
    class_means,
    prototype_bias,
    prototypes,
)
from twoview.methods.losses.gather import gather
from twoview.methods.losses.pairs import unit
from twoview.methods.method import Method
from twoview.methods.settings import Repeats

Share = Annotated[float, Field(ge=0, le=1)]


class BalancedOptions(ProjectorOptions):
    """The `[method]` table of balanced contrastive learning. With the defaults the method is SimCLR."""

    name: Literal["balanced"] = "balanced"
    temperature: PositiveFloat = 0.5  # temperature tau of the loss
    nu: NonNegativeFloat = 1.0  # weight of attraction
    lam: NonNegativeFloat = 1.0  # weight of repulsion
    include_positive: bool = True  # whether the positive is part of the log-sum too
    similarity: Similarity = "cosine"  # cosine, or dot or distance of embeddings that are not normalized
    prototype_views: Repeats = 1  # m, the views averaged to the positive; the encoder sees m + 1 views of each image
    oracle: Share = 0.0  # share of the positive that is the mean embedding of its class in the batch (uses labels)
    known_prior: bool = False  # weight each negative by 1 / (n pi): n classes, pi its class's share of the labels seen

    @model_validator(mode="after")
    def _prototypes_are_directions(self) -> Self:
        if self.similarity != "cosine" and (self.prototype_views > 1 or self.oracle):
            raise ValueError(
                f"similarity must be cosine where prototype_views is above 1 or oracle above 0, got {self.similarity}"
            )
        return self


class Balanced(Method):
    """Each view is attracted to the mean of m other views of its image, and repelled from views of other images.

    The recipe has two views: the first is the anchor, the second is drawn m times for the prototype.
    The method logs the prototype bias: the distance of the mean of an image's m + 1 views from the mean of its class in
    the batch. The class mean includes the image itself, so an image that is the only one of its class has no bias.
    """

    examples = EXAMPLES

    def __init__(self, options: BalancedOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim)
        # Number of labels of each class seen so far; after one epoch, their proportions are the true class shares.
        self.register_buffer("seen", torch.zeros(classes))
        self.seen: Tensor

    @classmethod
    def uses_labels(cls, options: BalancedOptions) -> bool:
        return options.oracle > 0 or options.known_prior

    @classmethod
    def views_for(cls, options: BalancedOptions, views: tuple[View, ...]) -> tuple[View, ...]:
        anchor, prototype = super().views_for(options, views)
        return (anchor, *[prototype] * options.prototype_views)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        o = self.options
        z = torch.stack(self.projector(self.encode(torch.cat(views))).chunk(len(views)))  # (m + 1, B, d)
        positive = z[1]
        if o.prototype_views > 1 or o.oracle:
            positive = prototypes(z[1:])
        if o.oracle:
            positive = (1 - o.oracle) * positive + o.oracle * class_means(positive, label)
        log_prior = self._log_prior(label) if o.known_prior else None
        loss = balanced(z[0], positive, o.temperature, o.nu, o.lam, o.include_positive, log_prior, o.similarity)
        return {"loss": loss, **_bias(z.detach(), label)}

    def _log_prior(self, label: Tensor) -> Tensor:
        """Return log(n pi) of each image's class, (B,), where pi is its share of all labels seen so far."""
        everyone = gather(label)
        self.seen.index_add_(0, everyone, torch.ones_like(everyone, dtype=self.seen.dtype))
        return torch.log(len(self.seen) * self.seen[label] / self.seen.sum())


def _bias(z: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Return the two measures of the prototype bias for logging. z: (m + 1, B, d), the embeddings of all views."""
    class_mean = torch.stack([class_means(view, label) for view in z]).mean(0)
    bias = prototype_bias(unit(z.float()).mean(0), class_mean)
    return {"prototype_bias": bias.squared_distance, "prototype_bias_cosine": bias.one_minus_cosine}
