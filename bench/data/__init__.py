"""Beton files of datasets, and which datasets are here."""
