"""System helpers that every part of the benchmark uses: processes, signals, locks, progress bars, escaped text."""
