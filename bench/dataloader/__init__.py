"""Measurements of the loader: its speed and the required speed, a profile, and whether its pixels are right."""
