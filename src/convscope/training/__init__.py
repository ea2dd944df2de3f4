"""Training: one visible path, `fit.fit`, and its parts."""
