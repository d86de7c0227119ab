"""PMSN (Assran et al. 2023): MSN with a prior that need not be uniform, for data with classes of unequal frequency.

The paper's formula could not be read. That only one term of the loss changes, and that it becomes a KL divergence with
a power law, is what its authors and re-implementations say (`losses/msn.py`).
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.losses.gather import gather
from twoview.methods.losses.priors import histogram, power_law
from twoview.methods.msn import MSN, MSNOptions
from twoview.methods.settings import Iterations


class PMSNOptions(MSNOptions):
    """The `[method]` table of PMSN: the keys of MSN and the keys of the prior.

    By default it uses no Sinkhorn, because one that makes the targets uniform would undo the prior.
    """

    name: Literal["pmsn"] = "pmsn"  # type: ignore[assignment]
    sinkhorn: Iterations = 0  # Sinkhorn iterations that balance the targets over a batch; 0 does not balance them
    marginal: Literal["prior", "uniform"] = "prior"  # what Sinkhorn balances the targets to; uniform as in lightly
    prior: Literal["uniform", "power-law", "classes"] = "power-law"  # classes: class frequencies, counted from labels
    exponent: NonNegativeFloat = 0.25  # exponent of the power law; 0 is uniform


class PMSN(MSN):
    """MSN with any prior over the prototypes. With the uniform prior and MSN's Sinkhorn it is bit-equal to MSN."""

    options: PMSNOptions

    def __init__(self, options: PMSNOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(options, encoder, views, classes)
        self.register_buffer("power_law", power_law(options.prototypes, options.exponent), persistent=False)
        # Number of labels of each class seen so far; after one epoch, their proportions are the true class shares.
        self.register_buffer("seen", torch.zeros(classes))
        self.power_law: Tensor
        self.seen: Tensor

    @classmethod
    def uses_labels(cls, options: PMSNOptions) -> bool:
        return options.prior == "classes"

    def prior(self, label: Tensor) -> Tensor:
        if self.options.prior == "classes":
            everyone = gather(label)
            self.seen.index_add_(0, everyone, torch.ones_like(everyone, dtype=self.seen.dtype))
            return histogram(self.seen, self.options.prototypes)
        return self.power_law if self.options.prior == "power-law" else self.uniform

    def marginal(self, prior: Tensor) -> Tensor:
        return prior if self.options.marginal == "prior" else self.uniform
