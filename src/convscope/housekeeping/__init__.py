"""Room on the disk: runs removed, the cache emptied."""
