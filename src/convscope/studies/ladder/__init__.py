"""The ladder, from the tutorial's transfer learning to a good one: `convscope ladder`.

`plan.py` has the recipe of each rung, and `study.py` trains them; `rungs.py` has what came out, and
`page.py` draws it.
"""
