"""Train, compare, explain and ship convolutional image classifiers."""

__version__ = "0.1.0"
