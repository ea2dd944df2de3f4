"""The best classifier of one's own photos in a given time: `convscope train` without a recipe."""
