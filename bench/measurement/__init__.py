"""Measurements of the machine, and their statistics: memory, energy, FLOPs, timings, environment, bootstrap."""
