"""From recipe to evidence record: recipes, training, evaluation, measurements, suites and comparisons with peers."""
