"""What the theory papers claim, measured at sizes that a laptop can do: an experiment is `run() -> list[Claim]`."""
