"""MoCo: a query against the key of the other view and a queue of older keys (He et al. 2020), with any kernel."""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from twoview.loaders.views import View
from twoview.methods import ema
from twoview.methods.encoder import Encoder
from twoview.methods.heads import Norm, ProjectorOptions
from twoview.methods.losses.gather import gather
from twoview.methods.losses.moco import EXAMPLES, moco, moco_sum
from twoview.methods.losses.pairs import unit
from twoview.methods.method import Method
from twoview.methods.settings import Keys

Gamma = Annotated[float, Field(gt=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]


class MoCoOptions(ProjectorOptions):
    """The `[method]` table of MoCo; the defaults are MoCo v2's. Kernels are exp(-d^gamma / T)."""

    name: Literal["moco"] = "moco"
    norm: Norm = "none"  # which linear layers of the projector BatchNorm follows
    loss: Literal["kernel", "sum"] = "kernel"  # of one kernel, or a sum of two losses (Tan et al. 2024)
    gamma: Gamma = 2.0  # of the kernel: 2 is Gaussian, 1 Laplacian
    temperature: PositiveFloat = 0.4  # T of the kernel; gamma 2 at T is cosines at tau = T / 2
    gamma2: Gamma = 2.0  # of the sum's second kernel
    temperature2: NonNegativeFloat = 0.0  # T of the second kernel; 0 means that of the first
    weight: Share = 0.5  # lambda, of the first kernel in a sum
    include_positive: bool = True  # whether the own key stands in the denominator; not so in Tan et al.'s code
    queue: Keys = 65536  # older keys to repel
    momentum: Share = 0.999  # of the momentum encoder


class MoCo(Method):
    """The first view's query attracts the second view's key, which a momentum encoder makes without gradient.

    The keys of a batch share their BatchNorm statistics; the original shuffles them over GPUs and lightly splits
    batches, so that no query's image shares statistics with its key. Here query and key are forwards of two networks.
    """

    examples = EXAMPLES

    def __init__(self, options: MoCoOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim)
        self.key_network = ema.frozen_copy(nn.Sequential(encoder, self.projector))
        self.register_buffer("queue", unit(torch.randn(options.queue, options.projection)))
        self.queue: Tensor
        self.keys: Tensor | None = None  # of the step under way, of all ranks

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        query = self.projector(self.encode(views[0]))
        with torch.no_grad():
            key = unit(self.key_network(views[1]).float())
        self.keys = gather(key)
        return {"loss": self._loss(query, key)}

    def _loss(self, query: Tensor, key: Tensor) -> Tensor:
        o = self.options
        if o.loss == "kernel":
            return moco(query, key, self.queue, o.temperature, o.gamma, o.include_positive)
        gammas, temperatures = (o.gamma, o.gamma2), (o.temperature, o.temperature2 or o.temperature)
        return moco_sum(query, key, self.queue, gammas, temperatures, o.weight, o.include_positive)

    def after_step(self, progress: float) -> None:
        # Behind the backward pass, which needs the old keys. In place, for CUDA graphs read the queue where it lies,
        # and write the next step's keys where this one's are.
        if self.keys is not None:
            self.queue.copy_(torch.cat([self.keys, self.queue])[: len(self.queue)])
            self.keys = None
        ema.follow(self.key_network, nn.Sequential(self.encoder, self.projector), self.options.momentum)
