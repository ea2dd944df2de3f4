"""Disk space: removing runs, emptying the cache."""
