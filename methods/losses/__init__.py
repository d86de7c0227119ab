"""Losses of the self-supervised methods, as pure functions on tensors."""
