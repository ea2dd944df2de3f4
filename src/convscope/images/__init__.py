"""From a file to pixels: NumPy and Pillow only."""
