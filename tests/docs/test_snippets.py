"""Every `python` and `bash` block of README and docs is run, page by page, in an empty folder.

`make docs` runs them. A block whose info string
says so is left to `pytest -m network` ("```bash network") or is not run at all because it installs
or takes minutes ("```bash by-hand").
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
]


class Block(NamedTuple):
    language: str
    flags: tuple[str, ...]
    code: str


def blocks(page: Path) -> list[Block]:
    fences = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [Block(language, tuple(flags.split()), code) for language, flags, code in fences]


def runnable(page: Path, *, network: bool = False) -> list[Block]:
    return [
        block
        for block in blocks(page)
        if block.language in ("python", "bash")
        and "by-hand" not in block.flags
        and ("network" in block.flags) == network
    ]


def run(page: Path, folder: Path, *, network: bool = False) -> int:
    # The commands of this environment, not of another that may be on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    count = 0
    for block in runnable(page, network=network):
        command = (
            [sys.executable, "-c", block.code]
            if block.language == "python"
            else ["bash", "-euo", "pipefail", "-c", block.code]
        )
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
        count += 1
    return count


@pytest.mark.docs
@pytest.mark.parametrize("page", list(filter(runnable, PAGES)), ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(page, tmp_path):
    assert run(page, tmp_path) >= 1


@pytest.mark.network
def test_the_snippets_that_need_cifar10_run(tmp_path):
    assert sum(run(page, tmp_path, network=True) for page in PAGES) >= 1


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind the #: each heading as GitHub writes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]*))?\)", page.read_text()):
            if "://" not in target:
                goal = page.parent / target if target else page
                assert goal.exists(), f"{page.name} links to {target}"
                assert not anchor or anchor in anchors(goal), f"{page.name}: {target}#{anchor}"
        for source in re.findall(r'<img src="([^"]+)"', page.read_text()):
            assert (page.parent / source).exists(), f"{page.name} shows {source}"


def test_no_flag_is_misspelt():
    known = {"network", "by-hand"}
    for page in PAGES:
        for block in blocks(page):
            assert set(block.flags) <= known, f"{page.name}: {block.flags}"
