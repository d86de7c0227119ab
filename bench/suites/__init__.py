"""Suites: named lists of measurements and trainings that are run one after the other."""
