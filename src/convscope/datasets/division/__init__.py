"""Division of a dataset into training, validation and test images."""
