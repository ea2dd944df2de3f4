"""Everything about many runs: comparisons, ladders, searches."""
