"""Training: one visible path, `fit.fit`, and what it stands on."""
