"""Named lists of measurements and trainings, each run to its end."""
