"""One training on several devices or hosts."""
