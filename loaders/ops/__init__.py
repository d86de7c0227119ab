"""One augmentation per file: settings, random draw, CPU kernel, device version and reference twin; see `op.py`."""
