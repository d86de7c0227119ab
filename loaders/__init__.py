"""disk -> batch: datasets, beton files, random numbers, augmentation kernels, the loader. Imports nothing of ours."""
