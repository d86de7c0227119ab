"""Kernel-InfoNCE: SimCLR with another kernel, or a mixture of two (Tan, Zhang, Yang & Yuan 2024)."""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.heads import ProjectorOptions
from twoview.methods.losses.kernel import EXAMPLES as KERNELS
from twoview.methods.losses.kernel import concat, kernel_infonce, kernel_sum, mixed_kernel
from twoview.methods.losses.spectral import EXAMPLES as SPECTRAL
from twoview.methods.losses.spectral import spectral
from twoview.methods.method import Method

Gamma = Annotated[float, Field(gt=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]


class KernelInfoNCEOptions(ProjectorOptions):
    """The `[method]` table of Kernel-InfoNCE. Kernels are exp(-d^gamma / T), as in the official code."""

    name: Literal["kernel-infonce"] = "kernel-infonce"
    # The official code's names, in this order: origin, sum, (none; the formula is the paper's), product, spectral.
    loss: Literal["kernel", "sum", "sum-kernel", "concat", "spectral"] = "kernel"  # one kernel, a mixture, or spectral
    gamma: Gamma = 2.0  # exponent of the kernel: 2 is Gaussian, 1 is Laplacian
    temperature: PositiveFloat = 0.5  # T of the kernel; gamma 2 with T is SimCLR with temperature T / 2
    gamma2: Gamma = 2.0  # exponent of a mixture's second kernel
    temperature2: NonNegativeFloat = 0.0  # T of a mixture's second kernel; 0 means the first kernel's T
    weight: Share = 0.5  # lambda, the weight of the first kernel in a mixture
    joint: bool = True  # whether concat normalizes the whole embedding (as the official code) instead of each half


class KernelInfoNCE(Method):
    """InfoNCE with exponential kernels of the distance between the projections of two views.

    The official code runs one forward pass per view. Here both views share one, as in SimCLR, so that the kernel is the
    only difference between the two methods.
    """

    examples = KERNELS | SPECTRAL

    def __init__(self, options: KernelInfoNCEOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        if options.loss == "concat" and options.projection % 2:
            raise ValueError(f"method.projection must be even for the loss concat, got {options.projection}")
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim, bias=False)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        z1, z2 = self.projector(self.encode(torch.cat(views))).chunk(2)
        return {"loss": self._loss(z1, z2)}

    def _loss(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Return the loss that the options choose, for projections (B, d) of two views."""
        o = self.options
        gammas, temperatures = (o.gamma, o.gamma2), (o.temperature, o.temperature2 or o.temperature)
        if o.loss == "kernel":
            return kernel_infonce(z1, z2, o.gamma, o.temperature)
        if o.loss == "sum":
            return kernel_sum(z1, z2, gammas, temperatures, o.weight)
        if o.loss == "sum-kernel":
            return mixed_kernel(z1, z2, gammas, temperatures, o.weight)
        if o.loss == "concat":
            return concat(z1, z2, gammas, temperatures, o.weight, o.joint)
        return spectral(z1, z2)
