"""One augmentation per file: settings, draw, CPU kernel, device version and reference implementation; see `op.py`."""
