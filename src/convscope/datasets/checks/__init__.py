"""Looking for faults in data: broken files, duplicates, leaks."""
