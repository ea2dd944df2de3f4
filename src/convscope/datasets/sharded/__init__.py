"""Sets of images in shards: files of decoded images, a few of which are read at a time."""
