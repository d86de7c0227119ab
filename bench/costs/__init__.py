"""The cost of losses and probes, and projections of whole pretrainings from measured steps."""
