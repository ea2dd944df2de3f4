"""The sections of the tutorial, a file for each."""
