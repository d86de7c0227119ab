"""Processes, signals, locks, progress and text: what every room needs of the system."""
