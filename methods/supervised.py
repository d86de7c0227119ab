"""Supervised training with cross entropy, the reference that learns from labels."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from twoview.loaders.views import View
from twoview.methods.encoder import Encoder
from twoview.methods.method import Method, Options


class SupervisedOptions(Options):
    """The `[method]` table of supervised training, which has nothing to set."""

    name: Literal["supervised"] = "supervised"


class Supervised(Method):
    """Cross entropy of a linear classifier on one view, trained together with the encoder. Logs the batch accuracy."""

    takes = 1
    default_views = "supervised"

    def __init__(self, options: SupervisedOptions, encoder: Encoder, views: tuple[View, ...], classes: int) -> None:
        super().__init__(encoder, self.views_for(options, views))
        self.classifier = nn.Linear(encoder.dim, classes)

    @classmethod
    def uses_labels(cls, options: SupervisedOptions) -> bool:
        return True

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        logits = self.classifier(self.encode(views[0])).float()
        accuracy = (logits.detach().argmax(1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label), "accuracy": accuracy}
