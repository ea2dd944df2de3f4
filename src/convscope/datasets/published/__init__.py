"""Published sets: how they are downloaded, read and kept."""
