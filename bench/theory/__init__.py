"""Claims of theory papers, measured at sizes that a laptop can handle.

An experiment is a module with `run() -> list[Claim]`.
"""
