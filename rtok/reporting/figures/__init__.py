"""Figures, one file each. They take NumPy arrays or CPU tensors and write a PNG."""
