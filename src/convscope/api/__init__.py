"""The verbs on one run, one file per verb, named as on the command line.

Each combines the stages. Keras is imported only where a model is needed.
"""
