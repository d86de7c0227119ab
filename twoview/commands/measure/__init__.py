"""Measure one part by itself: the loader, losses, probes, other libraries, or how closely views match torchvision's."""
