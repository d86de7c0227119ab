"""A linear head trained image by image, as a protocol says: on a frozen encoder, or together with it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twoview.methods.method import Method
from twoview.methods.probes.protocols import Protocol


class Classifier(Method):
    """Cross entropy of a linear head, for the trainer: a `Method` with one view.

    encoder: normalized float (B, 3, H, W) -> (B, dim). classes: of the head. side: of an image, in pixels.
    A frozen encoder stays as it is, BatchNorm's statistics too.
    """

    def __init__(self, encoder: nn.Module, protocol: Protocol, classes: int, side: int) -> None:
        super().__init__(encoder, (protocol.train(side),))
        self.protocol = protocol
        with torch.no_grad():
            width = self.eval().encode(torch.zeros(1, 3, side, side)).shape[1]
        self.norm = nn.BatchNorm1d(width) if protocol.batchnorm else nn.Identity()
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        encoder.requires_grad_(protocol.whole)
        if protocol.whole:
            set_layer_rates(self, protocol.layer_decay)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        self.encoder.train(mode and self.protocol.whole)
        return self

    def encode(self, x: Tensor) -> Tensor:
        if self.protocol.tokens > 1 and vit_of(self.encoder):
            return class_tokens(self.encoder, x, self.protocol.tokens)
        out: Tensor = self.encoder(x)
        return out.flatten(1)

    def scores(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        with torch.set_grad_enabled(self.protocol.whole and torch.is_grad_enabled()):
            features = self.encode(x)
        logits: Tensor = self.head(self.norm(features))
        return logits

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        logits = self.scores(views[0]).float()
        accuracy = (logits.detach().argmax(1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label, label_smoothing=self.protocol.smoothing), "accuracy": accuracy}


def class_tokens(encoder: nn.Module, x: Tensor, count: int) -> Tensor:
    """(B, count * dim): the class token behind each of a ViT's last blocks, side by side, the last one last.

    Each goes through the ViT's last norm, as DINO's linear evaluation does it (recalled); VISSL's is "CLS of last 4
    layers".
    """
    vit = vit_of(encoder)
    assert vit is not None
    tokens: list[Tensor] = []
    blocks = list(vit.blocks)[-count:]  # type: ignore[arg-type]
    hooks = [block.register_forward_hook(lambda *call: tokens.append(call[2][:, 0])) for block in blocks]
    try:
        encoder(x)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([vit.norm(token) for token in tokens], 1)  # type: ignore[operator]


def set_layer_rates(model: nn.Module, decay: float) -> None:
    """Gives each parameter its share of the learning rate: `decay` to the power of the layers above its own.

    What is embedded first is layer 0, then a layer a block of a ViT, or a stage of a ResNet; what comes behind them,
    as the head, has the whole rate. Another network's layers are not told apart, and all of it has the whole rate.
    Source: MAE's util/lr_decay.py, which has it from BEiT.
    """
    vit = vit_of(model)
    blocks = list(vit.blocks) if vit else _stages(model)  # type: ignore[arg-type]
    depth = {id(p): number for number, block in enumerate(blocks, 1) for p in block.parameters()}
    reached = not blocks
    for parameter in model.parameters():
        reached = reached or id(parameter) in depth
        layer = depth.get(id(parameter), len(blocks) + 1 if reached else 0)
        parameter.lr_scale = decay ** (len(blocks) + 1 - layer)  # type: ignore[attr-defined]


def vit_of(model: nn.Module) -> nn.Module | None:
    """The ViT in a model, by timm's names; None if there is none."""
    return next((module for module in model.modules() if hasattr(module, "blocks") and hasattr(module, "norm")), None)


def _stages(model: nn.Module) -> list[nn.Module]:
    """A ResNet's stages, by torchvision's names; none of another network."""
    for module in model.modules():
        if hasattr(module, "layer1"):
            return [stage for name, stage in module.named_children() if name.startswith("layer")]
    return []
