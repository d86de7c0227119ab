"""Probes: they turn an encoder into features, scores and accuracies."""
