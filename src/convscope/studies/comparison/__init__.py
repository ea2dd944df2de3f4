"""Comparison of training configurations, over several seeds: `convscope compare`.

`arms.py` names the configurations and `study.py` trains them; `comparison.py` has what came out,
`verdicts.py` puts it into sentences, and `page.py` on a page. `latency.py` times the models.
"""
