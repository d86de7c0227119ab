"""What every part of the benchmark needs of the system: processes, signals, locks, progress bars, escaped text."""
