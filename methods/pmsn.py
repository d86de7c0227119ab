"""PMSN: MSN with a prior that need not be uniform, for data whose classes are not equally frequent.

Assran et al. 2023. The paper's formula could not be read; that only the one term changes, and to a KL from a power law,
is what its authors and re-implementations say (`losses/msn.py`).
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
    """The `[method]` table of PMSN: MSN's and a prior. No Sinkhorn: one that makes targets uniform would undo it."""

    name: Literal["pmsn"] = "pmsn"  # type: ignore[assignment]
    sinkhorn: Iterations = 0  # iterations that balance the targets of a batch; 0: none
    marginal: Literal["prior", "uniform"] = "prior"  # to which; uniform is lightly's
    prior: Literal["uniform", "power-law", "classes"] = "power-law"  # classes: their shares, counted from the labels
    exponent: NonNegativeFloat = 0.25  # of the power law; 0 is uniform


class PMSN(MSN):
    """With the uniform prior it is MSN, at the same Sinkhorn to the last bit."""

    options: PMSNOptions

    def __init__(self, options: PMSNOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(options, encoder, views, classes)
        self.register_buffer("power_law", power_law(options.prototypes, options.exponent), persistent=False)
        self.register_buffer("seen", torch.zeros(classes))  # labels of each class so far: after an epoch, its share
        self.power_law: Tensor
        self.seen: Tensor

    def prior(self, label: Tensor) -> Tensor:
        if self.options.prior == "classes":
            everyone = gather(label)
            self.seen.index_add_(0, everyone, torch.ones_like(everyone, dtype=self.seen.dtype))
            return histogram(self.seen, self.options.prototypes)
        return self.power_law if self.options.prior == "power-law" else self.uniform

    def marginal(self, prior: Tensor) -> Tensor:
        return prior if self.options.marginal == "prior" else self.uniform
