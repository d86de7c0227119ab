"""Features: what a frozen encoder makes of a data set, once, for every probe."""

from collections.abc import Callable

import torch
from torch import Tensor

from methods.normalise import Normalise
from methods.trainer import LoaderLike


@torch.no_grad()
def extract(
    encode: Callable[[Tensor], Tensor],
    loader: LoaderLike,
    normalise: Normalise,
    device: torch.device,
    on_batch: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Features float32 (N, D) and labels int64 (N,), on the CPU, in the loader's order; in float32, without autocast.

    encode: float (B, 3, H, W) -> (B, D), in eval mode already. loader: of one view, without shuffling.
    on_batch: called after each batch.
    """
    features, labels = [], []
    for batch in loader.epoch(0):
        features.append(encode(normalise(batch.views[0].to(device))).float().flatten(1).cpu())
        labels.append(batch.label)
        on_batch()
    return torch.cat(features), torch.cat(labels)
