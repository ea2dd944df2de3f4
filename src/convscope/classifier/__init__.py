"""From pixels to predictions: NumPy only, except for the file that uses Keras."""
