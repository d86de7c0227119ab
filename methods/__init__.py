"""batch -> loss -> encoder -> accuracy: losses, backbones, methods, the trainer, probes."""
