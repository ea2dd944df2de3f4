"""Evaluation: predictions are made once, everything else is derived from them."""
