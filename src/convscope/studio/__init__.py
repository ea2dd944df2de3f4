"""The workbench in a browser: the same verbs for a person who does not type commands.

`gate.py` lets requests in, `workplace.py` is the folder of the studio, `jobs.py` and `worker.py`
run commands in processes that outlive it, `application.py` has the addresses, and each page is a
file named after it. Nothing is computed here: what a page does is a command, and it shows that
command.
"""
