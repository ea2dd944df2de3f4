"""The tutorial as a notebook: the same sections, with code cells in place of results."""

import json
from typing import Any

import numpy as np

from convscope.report.markdown import block_as_markdown
from convscope.report.page import Beside, Block, Code, Section
from convscope.studies.tutorial.facts import DataFacts, Facts
from convscope.studies.tutorial.page import sections
from convscope.studies.tutorial.plan import AT_HAND, BackbonePlan, Plan
from convscope.studies.tutorial.words import words_in

_PLAN = Plan(
    quick=True,
    images=None,
    epochs=5,
    n_seeds=1,
    backbones=(BackbonePlan(AT_HAND, (64,), until="64 px"),),
)
"""Minutes on two cores, and nothing to download."""

_DIGITS = DataFacts(
    name="digits",
    registered=True,
    options=("--data", "digits"),
    class_names=tuple("0123456789"),
    n_images={"train": 1_149, "val": 288, "test": 360},
    n_whole=1_797,
    samples=np.zeros((1, 8, 8, 1), np.uint8),
    sample_names=("0",),
)


def notebook(language: str = "en") -> str:
    """Return the text of the notebook, on the digits of scikit-learn.

    Args:
        language: Code of the language of its words.

    Raises:
        UnknownNameError: If there is no such language.
    """
    words = words_in(language)
    _ = words.gettext
    facts = Facts(words=words, plan=_PLAN, data=_DIGITS)
    introduction = [
        "# " + _("Convolutional neural networks: a tutorial, run again"),
        _(
            "This notebook is the page of `convscope tutorial` to run and to change. It takes the "
            "small digits of scikit-learn and some minutes. Each step is written with Keras alone "
            "first, then with convscope, which needs:"
        ),
        "```bash\npip install 'convscope[train]'\n```",
    ]
    cells = [_markdown("\n\n".join(introduction))]
    for number, section in enumerate(sections(facts), 1):
        cells += _cells(number, section)
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index:02}"
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": python, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _cells(number: int, section: Section) -> list[dict[str, Any]]:
    """Return the cells of a section: prose gathered into as few as possible, code one by one."""
    cells, prose = [], [f"## {number}. {section.heading}"]
    for block in section.blocks:
        code = _code_of(block)
        if not code:
            prose.append(block_as_markdown(block))
            continue
        cells += [_markdown("\n\n".join(prose))] if prose else []
        cells += [_code(f"# {each.title}\n{each.text}") for each in code]
        prose = []
    return cells + ([_markdown("\n\n".join(prose))] if prose else [])


def _code_of(block: Block) -> list[Code]:
    """Return the Python in a block that is to be run."""
    if not isinstance(block, Beside):
        return []
    return [each for each in block.blocks if isinstance(each, Code) and each.language == "python"]


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
