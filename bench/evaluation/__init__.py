"""Evaluation of encoders that were trained here or elsewhere: probes, transfer, and their representations."""
