"""Search over a recipe's settings: `convscope tune`.

`study.py` trains, by Optuna's choices; `tuning.py` has what came out, and `page.py` shows it.
"""
