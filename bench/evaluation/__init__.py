"""Evaluation of encoders trained here or elsewhere: probes, transfer and analysis of their representations."""
