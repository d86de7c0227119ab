"""Measure one part by itself: the loader, losses, probes, other libraries, or how exact the augmentations are."""
