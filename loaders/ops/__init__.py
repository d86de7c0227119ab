"""One augmentation a file: the kernel, the drawing of its parameters, the torchvision twin it must agree with."""
