"""From pixels to an answer: NumPy only, but for the file that knows Keras."""
