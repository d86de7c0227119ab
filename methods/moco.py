"""MoCo: tell the key of a query's other view from a queue of older keys (He et al. 2020), with any kernel."""

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
    """The `[method]` table of MoCo. The defaults are those of MoCo v2. Kernels are exp(-d^gamma / T)."""

    name: Literal["moco"] = "moco"
    norm: Norm = "none"  # which of the projector's linear layers are followed by BatchNorm
    loss: Literal["kernel", "sum"] = "kernel"  # loss of one kernel, or weighted sum of two losses (Tan et al. 2024)
    gamma: Gamma = 2.0  # exponent of the kernel: 2 is Gaussian, 1 is Laplacian
    temperature: PositiveFloat = 0.4  # T of the kernel; gamma 2 with T is MoCo's cosine loss with tau = T / 2
    gamma2: Gamma = 2.0  # exponent of the second kernel, for the sum
    temperature2: NonNegativeFloat = 0.0  # T of the second kernel, for the sum; 0 means the first kernel's T
    weight: Share = 0.5  # lambda, the weight of the first kernel's loss in the sum
    include_positive: bool = True  # whether the query's own key is part of the denominator (not in Tan et al.'s code)
    queue: Keys = 65536  # number of older keys that serve as negatives
    momentum: Share = 0.999  # momentum of the key network's moving average


class MoCo(Method):
    """The query, made of the first view, attracts the key, which a momentum encoder makes of the second view.

    The key has no gradient. All keys of a batch share their BatchNorm statistics. The original shuffles keys over GPUs,
    and lightly splits batches, so that a query's image does not share statistics with its key; here neither is done,
    and query and key come from separate forward passes of two networks.
    """

    examples = EXAMPLES

    def __init__(self, options: MoCoOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.options = options
        self.projector = options.projector(encoder.dim)
        self.key_network = ema.frozen_copy(nn.Sequential(encoder, self.projector))
        self.register_buffer("queue", unit(torch.randn(options.queue, options.projection)))
        self.queue: Tensor
        self.keys: Tensor | None = None  # all ranks' keys of the current step, which join the queue after it

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        query = self.projector(self.encode(views[0]))
        with torch.no_grad():
            key = unit(self.key_network(views[1]).float())
        self.keys = gather(key)
        return {"loss": self._loss(query, key)}

    def _loss(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the loss that the options choose. query, key: (B, d)."""
        o = self.options
        if o.loss == "kernel":
            return moco(query, key, self.queue, o.temperature, o.gamma, o.include_positive)
        gammas, temperatures = (o.gamma, o.gamma2), (o.temperature, o.temperature2 or o.temperature)
        return moco_sum(query, key, self.queue, gammas, temperatures, o.weight, o.include_positive)

    @property
    def averaged(self) -> nn.Module | None:
        """See `Method.averaged`."""
        return self.key_network[0]

    def after_step(self, progress: float) -> None:
        # The queue changes only after the backward pass, which needs the old keys. It changes in place because a CUDA
        # graph always reads the queue at one address, and writes each step's keys to one address.
        if self.keys is not None:
            self.queue.copy_(torch.cat([self.keys, self.queue])[: len(self.queue)])
            self.keys = None
        ema.follow(self.key_network, nn.Sequential(self.encoder, self.projector), self.options.momentum)
