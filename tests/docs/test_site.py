"""The documentation as a site: whole, searchable, and without a request to another host."""

import importlib
import inspect
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import convscope

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "docs" / "site" / "build.py"
REFERENCE = ROOT / "docs" / "site" / "reference"
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
require_accessible = runpy.run_path(str(ROOT / "tests/flow/accessible.py"))["require_accessible"]
EXPLORER = Path(runpy.run_path(str(BUILD))["EXPLORER"]).name


class Page(HTMLParser):
    """What a page shows and what it loads.

    Attributes:
        text: Its words.
        ids: Places that a link can name.
        links: Targets of its links.
        loads: Addresses that a browser asks for as it opens the page.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.text, self.ids = "", set()
        self.links, self.loads = [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.add(given.get("id"))
        if tag == "a":
            self.links.append(given.get("href") or "")
        else:
            found = (given.get(name) for name in ("src", "href", "srcset", "data", "poster"))
            self.loads += [address for address in found if address]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site that `make docs` has just built, or one built here."""
    pytest.importorskip("sphinx", reason="it builds the site: pip install -e '.[dev]'")
    if built := os.environ.get("CONVSCOPE_SITE"):
        return ROOT / built
    folder = tmp_path_factory.mktemp("documentation") / "site"
    subprocess.run([sys.executable, BUILD, "--out", folder], check=True)
    return folder


def test_every_public_name_is_in_the_reference_once():
    directives = "".join(page.read_text() for page in REFERENCE.glob("*.rst"))
    names = re.findall(
        r"^\.\. auto(?:function|class|exception):: convscope\.(\w+)$", directives, re.M
    )
    assert sorted(names) == convscope.__all__


def test_objects_within_objects_of_the_reference_are_there_too():
    directives = "".join(page.read_text() for page in REFERENCE.glob("*.rst"))
    shown = re.findall(r"^\.\. autoclass:: (convscope[\w.]+)\.(\w+)$", directives, re.M)
    classes = {name: getattr(importlib.import_module(module), name) for module, name in shown}
    of_python = {"Any", "Callable", "Iterator", "Literal", "Mapping", "None", "Path", "Sequence"}
    for name, shown_class in classes.items():
        kinds = dict(inspect.get_annotations(shown_class))
        for key, member in vars(shown_class).items():
            if isinstance(member, property):
                kinds[key] = member.fget.__annotations__["return"]
        for key, kind in kinds.items():
            text = kind.__name__ if isinstance(kind, type) else str(kind)
            named = set(re.findall(r"\b[A-Z]\w+", text))
            assert key[0] == "_" or named <= classes.keys() | of_python, f"{name}.{key}: {text}"


@pytest.mark.docs
def test_every_page_of_the_documentation_is_a_page_of_the_site(site):
    for source in PAGES:
        page = Page((site / source.relative_to(ROOT)).with_suffix(".html"))
        title = source.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        assert title.replace("`", "") in page.text, source.name
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


@pytest.mark.docs
def test_every_link_within_the_site_leads_somewhere(site):
    pages = {file: Page(file) for file in site.rglob("*.html") if file.name != EXPLORER}
    n_links = 0
    for file, page in pages.items():
        for link in page.links:
            target, _, place = link.partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            goal = (file.parent / target).resolve() if target else file
            assert goal.exists(), f"{file.name} links to {link}"
            assert not place or goal not in pages or place in pages[goal].ids, (
                f"{file.name}: {link}"
            )
            n_links += 1
    assert n_links > 1000


@pytest.mark.docs
def test_the_reference_shows_every_verb_with_its_arguments(site):
    pages = [file.read_text(encoding="utf-8") for file in (site / "docs/site/reference").iterdir()]
    for name in convscope.__all__:
        heads = re.findall(rf'<dt[^>]* id="convscope.{name}">(.*?)</dt>', "".join(pages), re.S)
        assert len(heads) == 1, name
        shown = re.sub(r"<[^>]+>", "", heads[0])
        if inspect.isfunction(verb := getattr(convscope, name)):
            for argument in inspect.signature(verb).parameters:
                assert re.search(rf"\b{argument}\b", shown), f"{name}: {argument}"
            returned = re.sub(r"<a .*?</a>|<[^>]+>", "", heads[0].partition("return-typehint")[2])
            unexplained = set(re.findall(r"[A-Z]\w+", returned))
            assert unexplained <= {"Any", "Iterator", "None", "Path"}, f"{name}: {returned}"
    text = "".join(Page(file).text for file in (site / "docs/site/reference").iterdir())
    # Marks of Markdown are read as such; an indented line of a paragraph would begin a list.
    assert "`" not in text
    assert '<dl class="simple">' not in "".join(pages)


@pytest.mark.docs
def test_no_page_loads_anything_from_another_host(site):
    for file in site.rglob("*.html"):
        for address in Page(file).loads:
            assert not re.match(r"(\w+:)?//", address), f"{file.name} loads {address}"
    for file in site.rglob("*.css"):
        loads = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", file.read_text("utf-8"))
        assert not [address for address in loads if re.match(r"(\w+:)?//", address)], file.name


@pytest.mark.docs
def test_the_search_knows_the_words_of_pages_and_docstrings(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    for word, page in (("occlus", "docs/explaining"), ("temperatur", "docs/diagnosing")):
        places = found["terms"][word]
        names = [found["docnames"][n] for n in (places if isinstance(places, list) else [places])]
        assert page in names, word
    assert "train" in {name for *_, name in found["objects"]["convscope"]}


@pytest.mark.docs
def test_in_a_browser_words_are_found_and_the_explorer_runs(site, open_page):
    with open_page(viewport={"width": 390, "height": 800}) as (page, complaints, asked):
        page.goto(f"{(site / 'search.html').as_uri()}?q=temperature+calibration")
        found = page.locator("#search-results li a")
        found.first.wait_for()
        assert any("/docs/diagnosing.html" in each.evaluate("a => a.href") for each in found.all())
        page.goto((site / "docs/site/explorer.html").as_uri())
        best = page.frame_locator("iframe.explorer").locator(".class.best .name")
        assert best.text_content(timeout=60_000) == "7"
        # Day and night in the frame follow the page's button; pretended for all, they could not.
        page.emulate_media(color_scheme="null")
        (inside,) = page.main_frame.child_frames
        seen = {}
        for _ in range(3):
            page.locator("button.theme-toggle").first.evaluate("button => button.click()")
            dark = inside.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
            seen[page.evaluate("document.body.dataset.theme")] = dark
        assert seen == {"dark": True, "auto": False, "light": False}
        names = ("README", "docs/results", "docs/layouts", "docs/site/reference/training")
        for name in names:
            page.goto((site / f"{name}.html").as_uri())
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is {wide} pixels wider than a phone"
        # The button says in the console what it does.
        assert [line for line in complaints if not line.startswith("Changed to ")] == []
        assert {address.partition(":")[0] for address in asked} <= {"file", "data", "blob"}
        for name in names:
            page.goto((site / f"{name}.html").as_uri())
            require_accessible(page, name)


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    pytest.importorskip("sphinx", reason="it builds the site: pip install -e '.[dev]'")
    source = tmp_path / "checkout"
    source.mkdir()
    for file in (*ROOT.glob("*.md"), ROOT / "LICENSE"):
        shutil.copy(file, source)
    for folder in ("deploy", "docs", "notebooks"):
        shutil.copytree(ROOT / folder, source / folder)
    (source / "src").symlink_to(ROOT / "src")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (source / "README.md").write_text(readme + "\n[Nowhere](docs/no-such-page.md)\n", "utf-8")
    code = "import pathlib, runpy, sys; build, *folders = sys.argv[1:]; "
    code += "runpy.run_path(build)['build_pages'](*map(pathlib.Path, folders))"
    done = subprocess.run(
        [sys.executable, "-c", code, BUILD, source, tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (warning,) = re.findall(".*WARNING.*", done.stderr)
    assert "README.md" in warning
    assert "docs/no-such-page.md" in warning
