"""Train a recipe, with what belongs to a training: online probes, search, loggers, profiles, memory plans, Slurm."""
