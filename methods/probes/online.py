"""A linear probe during pretraining, on features that the encoder computes anyway. It does not affect the training."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twoview.methods import ranks
from twoview.methods.accumulate import joined
from twoview.methods.method import Method
from twoview.methods.probes.end_to_end import vit_of
from twoview.methods.vit import Pool, pooled

RATE = 0.1  # learning rate of the head: solo-learn's classifier_lr, and lightly's
MOMENTUM = 0.9


class Online(Method):
    """Wraps a method and trains a linear head alongside it, on the detached features of each image's first view.

    `loss` returns the method's own losses, equal bit for bit, and two values of the head before its step:
    `online_loss`, and `online_top1` as a share from 0 to 1. The gradient of the head's cross entropy is written out by
    hand, so that the head is in no autograd graph and no optimizer: a step takes a few small kernels and never waits
    for the device. Features are standardized over their batch, so that one learning rate suits every encoder. Patches
    that the method hides from its encoder are hidden from the head too. The features always come from the encoder that
    is trained, even if other probes see its moving average.
    """

    def __init__(self, method: Method, classes: int) -> None:
        nn.Module.__init__(self)
        self.method = method
        self.views, self.masks = method.views, method.masks
        self.exempt = tuple(f"method.{name}" for name in method.exempt)
        vit = vit_of(method.encoder)
        # In a list, so that torch does not register it as a submodule a second time.
        self._watched: list[Any] = [vit.norm if vit else method.encoder]
        # The features of the first forward pass while a step is on its way, and the number of calls that it takes.
        self._watched[0].seen, self._watched[0].wanted = None, 1
        self._watched[0].register_forward_hook(partial(_remember, getattr(method.encoder, "pool", "class")))
        width = getattr(method.encoder, "dim")  # noqa: B009
        # Buffers, not parameters: the trainer's optimizer must not see them. The speeds are SGD's momentum buffers.
        for name, shape in (("weight", (width, classes)), ("bias", (classes,))):
            self.register_buffer(name, torch.zeros(shape))
            self.register_buffer(f"{name}_speed", torch.zeros(shape))
        self.weight: Tensor
        self.weight_speed: Tensor
        self.bias: Tensor
        self.bias_speed: Tensor

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        return self.method.encoder

    @property
    def probed(self) -> nn.Module:
        return self.method.probed

    def after_step(self, progress: float) -> None:
        self.method.after_step(progress)

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        """Return the losses of the method and of the head, which learns from the features of this forward pass."""
        watched = self._watched[0]
        watched.seen, watched.wanted = [], self.method.encoder.parts
        out = self.method.loss(views, label, masks)
        seen, watched.seen = joined(watched.seen), None
        return {**out, **self.learn(seen[: len(label)], label)}

    @torch.no_grad()
    def learn(self, features: Any, label: Tensor) -> dict[str, Tensor]:
        """Train the head for one step; return its loss and top-1 from before. features: (B, D); label: int64 (B,)."""
        with torch.autocast(features.device.type, enabled=False):
            x = F.batch_norm(features.float(), None, None, training=True)
            logits = x @ self.weight + self.bias
            # The gradient of mean cross entropy in the logits: predicted probabilities less the one-hot label.
            slope = (logits.softmax(1) - F.one_hot(label, logits.shape[1])) / len(label)
            for parameter, speed, gradient in (
                (self.weight, self.weight_speed, x.T @ slope),
                (self.bias, self.bias_speed, slope.sum(0)),
            ):
                speed.mul_(MOMENTUM).add_(ranks.mean_over_ranks(gradient))
                parameter.sub_(speed, alpha=RATE)
            right = (logits.argmax(1) == label).float().mean()
            return {"online_loss": F.cross_entropy(logits, label), "online_top1": right}


def _remember(pool: Pool, module: Any, inputs: Any, out: Tensor) -> None:
    """Forward hook that keeps the features of a step's first forward pass, which begins with the first view.

    Where a method passes smaller crops in a later pass, these are not kept. A pass by parts (`methods/accumulate.py`)
    is several calls; there torch.compile must not trace the hook, since it would compile the encoder anew for each.
    pool: the representation in a ViT's tokens.
    """
    (_keep if module.wanted == 1 else _keep_untraced)(pool, module, out)


def _keep(pool: Pool, module: Any, out: Tensor) -> None:
    if module.seen is not None and len(module.seen) < module.wanted:
        module.seen.append((pooled(out, pool) if out.ndim == 3 else out.flatten(1)).detach())


_keep_untraced = torch.compiler.disable(_keep)
