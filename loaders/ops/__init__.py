"""One augmentation a file: settings, draw, kernel, device arithmetic, the twin it must agree with; see `op.py`."""
