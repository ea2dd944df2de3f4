"""The command line: one file per command, each parses, calls the API and prints."""

from convscope.cli._main import main

__all__ = ["main"]
