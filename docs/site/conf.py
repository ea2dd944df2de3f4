"""Settings of the site: Sphinx reads this file; `build.py` beside it runs Sphinx.

The source is the whole checkout, so that README and the pages in docs are read where they are and
their links hold on the site as on a code host.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.pycode import ModuleAnalyzer

import convscope

ROOT = Path(__file__).parents[2]

project = "convscope"
author = "the authors of convscope"
version = release = convscope.__version__
root_doc = "README"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# What else lies in a checkout (environments, runs) is not even listed.
_READ = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "deploy"}
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in _READ]

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4
smartquotes_action = "De"  # Dashes; "best" in a docstring stays a string of Python.

# Docstrings are Google style with Markdown's single backticks for code.
default_role = "code"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_mock_imports = ["keras", "tensorflow"]  # seconds, for names in signatures
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "convscope"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it asks for the pages, which no browser gives to a file
html_show_sphinx = False
html_show_copyright = False

CONTENTS = {
    "Guide": [
        *("docs/data", "docs/models", "docs/training", "docs/transfer", "docs/evaluation"),
        *("docs/comparing", "docs/scaling", "docs/diagnosing", "docs/explaining"),
        *("docs/export", "docs/serving"),
        *("docs/studio", "docs/tutorial", "docs/site/explorer", "docs/results"),
    ],
    "Python reference": [
        *(f"docs/site/reference/{page}" for page in ("data", "training", "evaluating")),
        *(f"docs/site/reference/{page}" for page in ("inside", "using", "objects")),
        *(f"docs/site/reference/{page}" for page in ("results", "errors")),
    ],
    "More": [
        "docs/settings",
        "docs/layouts",
        "docs/plugins",
        "deploy/README",
        "CONTRIBUTING",
        "SECURITY",
        "CHANGELOG",
    ],
}
"""Pages by heading, in the order of the sidebar. Sphinx warns of a page that is not here."""

_COLON = "\ue000"
"""Stands for a colon while Napoleon reads a docstring."""

_ARRAY = r"~?numpy\.ndarray\[tuple\[[\w.~]*Any, \.\.\.\], ~?numpy\.dtype\[[\w.~]*?(\w+?)_?\]\]"


def read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give the first page the table of contents; links to folders of the checkout become text."""
    folder = Path(app.env.doc2path(docname)).parent

    def kept(link: re.Match[str]) -> str:
        return link[1] if (folder / link[2]).is_dir() else link[0]

    source[0] = re.sub(r"(?<!!)\[([^]\n]+)\]\(([^)#:\n]+)\)", kept, source[0])
    if docname == root_doc:
        for caption, pages in CONTENTS.items():
            lines = ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
            source[0] += "\n".join(lines)


def read_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Say what our docstrings mean, before Napoleon reads their sections."""
    code = ""
    for n, line in enumerate(lines[:-2]):
        if not line or (code and line.startswith(code)):
            continue
        # Words, an empty line, an indented one: code, as in Markdown.
        code = re.match(" *", line)[0] + "    "
        if not lines[n + 1] and lines[n + 2].startswith(code):
            lines[n] += ":" if line.endswith(":") else " ::"
        else:
            code = ""
    # In these Napoleon would take the words before a colon for a type.
    answers = [n + 1 for n, line in enumerate(lines) if line.strip() in ("Returns:", "Yields:")]
    for n in answers + [0] * (what == "property"):
        lines[n] = lines[n].replace(":", _COLON)


def write_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Correct what Napoleon made of it: types without their modules, as in signatures."""
    for n, line in enumerate(lines):
        lines[n] = line.replace(_COLON, ":")
        if line.startswith(":vartype "):
            line = re.sub(_ARRAY, r"NDArray[\1]", line)
            lines[n] = re.sub(r"((?:\w+\.)+\w+)", r"~\1", line)


def write_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, *signature: str | None
) -> tuple[str | None, ...]:
    """Leave out the arguments of results, which nobody makes by hand; shorten types of arrays."""
    if what == "class" and dataclasses.is_dataclass(obj):
        return ("", None)
    return tuple(part and re.sub(_ARRAY, r"NDArray[\1]", part) for part in signature)


def mend_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Mend what axe-core finds serious: scrolling by keyboard, levels of headings, lists."""

    def signature(found: re.Match[str]) -> str:
        return re.sub("<(/?)(?:dl|dd)>", r"<\1div>", found[0])

    body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
    body = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    context["body"] = re.sub(r'<dt class="sig .*?</dt>', signature, body, flags=re.S)
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('"heading"', '"heading" aria-level="2"')


def setup(app: Sphinx) -> None:
    """Register what is particular to this site."""
    # The signatures for type checkers leave out arguments; the function itself has all.
    analyzer = ModuleAnalyzer.for_module("convscope.studies.train")
    analyzer.analyze()
    analyzer.overloads.clear()
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)
    app.connect("autodoc-process-docstring", write_docstring, priority=600)
    app.connect("autodoc-process-signature", write_signature)
    app.connect("html-page-context", mend_page, priority=900)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
