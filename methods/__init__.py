"""From a batch to a trained encoder and its accuracy: losses, backbones, methods, the trainer and probes."""
