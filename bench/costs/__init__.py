"""The cost of losses and probes, and projections of whole pretraining runs from measured steps."""
