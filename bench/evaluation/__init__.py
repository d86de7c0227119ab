"""Encoders, trained here or elsewhere, judged: probes, transfer, what they have learned."""
