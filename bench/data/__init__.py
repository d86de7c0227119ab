"""Beton files of datasets, and which datasets are available on this machine."""
