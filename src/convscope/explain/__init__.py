"""Looking inside a network: what it looks at in an image, and the output of each layer."""
