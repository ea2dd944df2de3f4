"""The best classifier of one's own photos in a given time: `convscope train` without a recipe.

`auto.py` begins, resumes and ends a search; `search.py` trains the candidates that `proposals.py`
names one after another, as `results.py` and `clock.py` allow; `candidates.py` says what one is.
"""
