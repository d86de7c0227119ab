"""Train a recipe, with online probes, search, loggers, profiles, memory plans and Slurm."""
