"""batch -> loss -> encoder -> accuracy: losses, backbones, methods, the trainer, probes. Imports `loaders.views` and `loaders.rng` only."""
