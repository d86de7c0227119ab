"""Training a recipe, and all around it: online probes, search, loggers, profiles, memory plans, Slurm."""
