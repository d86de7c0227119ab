"""What is read off the machine, and the statistics of it: memory, energy, FLOPs, clocks, environment."""
