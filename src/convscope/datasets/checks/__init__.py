"""Checks of data for broken files, duplicates and leaks."""
