"""Synchronized BatchNorm, with statistics over the joined batch of all ranks."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from twoview.methods.ranks import SumOverRanks, world


def synchronized(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module with every BatchNorm replaced by a synchronized one.

    It is torch's SyncBatchNorm on a GPU and `JoinedBatchNorm` on a CPU, where torch has none.
    """
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            joined = JoinedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            joined.load_state_dict(child.state_dict())
            joined.weight, joined.bias = child.weight, child.bias  # not copies: a target network's are frozen
            setattr(module, name, joined)
        else:
            synchronized(child, device)
    return module


class JoinedBatchNorm(_BatchNorm):
    """BatchNorm of (B, C, ...) that in training uses mean and variance over all ranks, which must have the same B."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        mean = SumOverRanks.apply(x.mean(others)) / world()
        centered = x - mean.view(shape)
        variance = SumOverRanks.apply(centered.square().mean(others)) / world()
        self._follow(mean.detach(), variance.detach(), x.numel() // x.shape[1] * world())
        out = centered * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running mean and the running (unbiased) variance, as torch does. count: values per channel."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)  # count / (count - 1) makes it unbiased
