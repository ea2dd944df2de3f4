"""Published sets: how they are fetched, read and kept."""
