"""From the disk to a batch: datasets, beton files (FFCV's format), random numbers, augmentation kernels, the loader.

Nothing here imports from the project's other packages.
"""
