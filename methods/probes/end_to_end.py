"""A linear head trained on images as a protocol prescribes: on a frozen encoder, or with the encoder (fine-tuning)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twoview.methods.method import Method
from twoview.methods.probes.protocols import Protocol


class Classifier(Method):
    """An encoder with a linear head, trained by cross entropy: a `Method` with one view, for the trainer.

    encoder: maps normalized float (B, 3, H, W) to (B, dim). classes: number of outputs of the head. side: of an image,
    in pixels. An encoder that the protocol freezes does not change, nor do its BatchNorm statistics.
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
        """Set the training mode of the head, and of the encoder only where it is trained too."""
        super().train(mode)
        self.encoder.train(mode and self.protocol.whole)
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Return the features (B, D) that the head sees: a ViT's class tokens if the protocol asks for several."""
        if self.protocol.tokens > 1 and vit_of(self.encoder):
            return class_tokens(self.encoder, x, self.protocol.tokens)
        out: Tensor = self.encoder(x)
        return out.flatten(1)

    def scores(self, x: Tensor) -> Tensor:
        """Return the logits (B, classes) of normalized images x, float (B, 3, H, W)."""
        with torch.set_grad_enabled(self.protocol.whole and torch.is_grad_enabled()):
            features = self.encode(x)
        logits: Tensor = self.head(self.norm(features))
        return logits

    def loss(self, views: tuple[Tensor, ...], label: Tensor, masks: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
        """Return the cross entropy as `loss`, and the top-1 of the batch as `accuracy`, a share from 0 to 1."""
        logits = self.scores(views[0]).float()
        accuracy = (logits.detach().argmax(1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label, label_smoothing=self.protocol.smoothing), "accuracy": accuracy}


def class_tokens(encoder: nn.Module, x: Tensor, count: int) -> Tensor:
    """Return the class tokens after each of a ViT's last `count` blocks, concatenated in order: (B, count * dim).

    Each goes through the ViT's final norm, as in DINO's linear evaluation (recalled); VISSL's words are "CLS of last 4
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
    """Give each parameter its share of the learning rate: `decay` to the power of the number of layers above its own.

    The embedding is layer 0; then each block of a ViT, or each stage of a ResNet, is a layer; what follows them, such
    as the head, has the full rate. In any other network, all parameters have the full rate. The share is stored on the
    parameter as `lr_scale`. Source: MAE's util/lr_decay.py, which has it from BEiT.
    """
    vit = vit_of(model)
    blocks = list(vit.blocks) if vit else _stages(model)  # type: ignore[arg-type]
    depth = {id(p): number for number, block in enumerate(blocks, 1) for p in block.parameters()}
    # Parameters before the first block belong to layer 0, those behind the last one to the layer above all blocks.
    reached = not blocks
    for parameter in model.parameters():
        reached = reached or id(parameter) in depth
        layer = depth.get(id(parameter), len(blocks) + 1 if reached else 0)
        parameter.lr_scale = decay ** (len(blocks) + 1 - layer)  # type: ignore[attr-defined]


def vit_of(model: nn.Module) -> nn.Module | None:
    """Return the ViT inside a model, found by timm's attribute names; None if there is none."""
    return next((module for module in model.modules() if hasattr(module, "blocks") and hasattr(module, "norm")), None)


def _stages(model: nn.Module) -> list[nn.Module]:
    """Return the stages of a ResNet, found by torchvision's attribute names; an empty list for any other network."""
    for module in model.modules():
        if hasattr(module, "layer1"):
            return [stage for name, stage in module.named_children() if name.startswith("layer")]
    return []
