"""Looking inside a network: what it looks at in an image, and what each layer makes of it."""
