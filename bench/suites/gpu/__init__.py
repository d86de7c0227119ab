"""`twoview suite gpu`: measure this code on one GPU, the most valuable steps first, and compare with its targets."""
