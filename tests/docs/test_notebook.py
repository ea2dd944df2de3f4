"""The notebooks are what their source gives, and run from the first cell to the last."""

import runpy
from pathlib import Path

import pytest

from convscope.studies.tutorial.notebook import notebook
from convscope.studies.tutorial.words import languages

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize("language", languages())
def test_it_is_what_the_source_gives(language):
    path_of = runpy.run_path(str(NOTEBOOKS / "make.py"))["path_of"]
    said = path_of(language).read_text(encoding="utf-8")
    assert said == notebook(language), "write it again: python notebooks/make.py"


@pytest.mark.slow
def test_it_is_valid_and_runs_in_jupyter(tmp_path):
    import nbclient
    import nbformat

    opened = nbformat.read(NOTEBOOKS / "tutorial.ipynb", as_version=4)
    nbformat.validate(opened)
    done = nbclient.NotebookClient(
        opened, timeout=900, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert len(code) > 10
    printed = "".join(
        output.get("text", "") for cell in code for output in cell.outputs if "text" in output
    )
    assert "All 3 runs are correct on the same images" in printed
