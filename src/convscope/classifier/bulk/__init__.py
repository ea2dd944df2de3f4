"""Prediction of very many images: read as a stream, by many workers, into a file that grows."""
