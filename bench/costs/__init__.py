"""What losses and probes cost, and what measured steps come to."""
