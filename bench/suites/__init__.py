"""Suites: named lists of measurements and training runs that are run one after the other."""
