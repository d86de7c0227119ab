"""Balanced contrastive learning: attraction and repulsion weighted apart, and debiased prototypes (Lee 2025).

The paper's formulas could not be read. The loss is inferred from descriptions of it; how a prototype is debiased, what
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
    """The `[method]` table of balanced contrastive learning; with the defaults it is SimCLR."""

    name: Literal["balanced"] = "balanced"
    temperature: PositiveFloat = 0.5  # tau
    nu: NonNegativeFloat = 1.0  # weight of attraction
    lam: NonNegativeFloat = 1.0  # weight of repulsion
    include_positive: bool = True  # whether the positive stands inside the log-sum too
    similarity: Similarity = "cosine"  # or, of embeddings that are not normalized, "dot" or "distance"
    prototype_views: Repeats = 1  # m, views whose mean is the positive; the encoder sees m + 1 of each image
    oracle: Share = 0.0  # share of the class's mean in the batch, by label, in the positive
    known_prior: bool = False  # negatives weigh 1 / (n pi) of their class, its share pi counted from the labels

    @model_validator(mode="after")
    def _prototypes_are_directions(self) -> Self:
        if self.similarity != "cosine" and (self.prototype_views > 1 or self.oracle):
            raise ValueError(
                f"similarity must be cosine with prototype_views above 1 or an oracle, got {self.similarity}"
            )
        return self


class Balanced(Method):
    """A view attracts the mean of m others of its image, and repels those of other images.

    Of the recipe's two views the first is the anchor's and the second that of the prototype, which is drawn m times.
    Logs the prototype bias: how far the mean of an image's m + 1 views is from the mean of its class in the batch,
    the image itself among it, so that a class alone in a batch has none.
    """

    examples = EXAMPLES

    def __init__(self, options: BalancedOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim)
        self.register_buffer("seen", torch.zeros(classes))  # labels of each class so far: after an epoch, its share
        self.seen: Tensor

    @classmethod
    def views_for(cls, options: BalancedOptions, views: tuple[View, ...]) -> tuple[View, ...]:
        anchor, prototype = super().views_for(options, views)
        return (anchor, *[prototype] * options.prototype_views)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        o = self.options
        z = torch.stack(self.projector(self.encode(torch.cat(views))).chunk(len(views)))
        positive = z[1]
        if o.prototype_views > 1 or o.oracle:
            positive = prototypes(z[1:])
        if o.oracle:
            positive = (1 - o.oracle) * positive + o.oracle * class_means(positive, label)
        log_prior = self._log_prior(label) if o.known_prior else None
        loss = balanced(z[0], positive, o.temperature, o.nu, o.lam, o.include_positive, log_prior, o.similarity)
        return {"loss": loss, **_bias(z.detach(), label)}

    def _log_prior(self, label: Tensor) -> Tensor:
        """(B,): log(n pi) of each image's class, pi its share of all labels seen so far."""
        everyone = gather(label)
        self.seen.index_add_(0, everyone, torch.ones_like(everyone, dtype=self.seen.dtype))
        return torch.log(len(self.seen) * self.seen[label] / self.seen.sum())


def _bias(z: Tensor, label: Tensor) -> dict[str, Tensor]:
    class_mean = torch.stack([class_means(view, label) for view in z]).mean(0)
    bias = prototype_bias(unit(z.float()).mean(0), class_mean)
    return {"prototype_bias": bias.squared_distance, "prototype_bias_cosine": bias.one_minus_cosine}
