"""Write the notebooks anew from their source, `convscope.studies.tutorial`.

python notebooks/make.py
"""

from pathlib import Path

from convscope.studies.tutorial.notebook import notebook
from convscope.studies.tutorial.words import languages

FOLDER = Path(__file__).parent


def path_of(language: str) -> Path:
    """Return the notebook of a language."""
    return FOLDER / f"tutorial{'' if language == 'en' else f'-{language}'}.ipynb"


if __name__ == "__main__":
    for each in languages():
        path_of(each).write_text(notebook(each), encoding="utf-8")
