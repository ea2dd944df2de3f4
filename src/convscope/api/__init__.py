"""The verbs on one run, a file named after each, in the words of the command line.

Each puts the stages together. Keras is imported only where a model is.
"""
