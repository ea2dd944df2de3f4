"""The tutorial that convscope grew out of, as one study and one page, section by section.

`sections/` holds a file for each section in the order of the tutorial; each gives the words, the
code that a learner would write, and, once it is trained, what came out. `study.py` trains, by the
plan in `plan.py`; `page.py` and `notebook.py` put the sections together; `words.py` translates
them, with a catalogue for each language in `languages/`.
"""
