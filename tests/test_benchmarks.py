"""Benchmarks import what is there: most of them run for hours, and so seldom."""

import ast
from pathlib import Path

import pytest

import convscope

ROOT = Path(__file__).parents[1]
SOURCE = Path(convscope.__file__).parent
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def defined(file: Path) -> set[str]:
    """Return the names that a module defines at its top, by reading it."""
    names: set[str] = set()
    for statement in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in statement.names}
        elif isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store):
            names.add(statement.id)
    return names


def module(name: str) -> Path | None:
    """Return the file of a module of the package or of another benchmark."""
    top, *parts = name.split(".")
    if top != "convscope":
        file = ROOT / "benchmarks" / f"{name}.py"
        return file if file.exists() else None
    place = SOURCE.joinpath(*parts)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def missing(tree: ast.AST) -> list[str]:
    """Return what a program imports and nothing defines."""
    found = []
    for each in ast.walk(tree):
        if not isinstance(each, ast.ImportFrom) or each.module is None:
            continue
        file = module(each.module)
        if file is None:
            continue  # somebody else's
        known = defined(file) if file.exists() else set()
        if file == SOURCE / "__init__.py":
            known |= set(convscope.__all__)
        for alias in each.names:
            inner = module(f"{each.module}.{alias.name}")
            if alias.name not in known and not (inner and inner.exists()):
                found.append(f"{each.module}.{alias.name}")
    return found


@pytest.mark.skipif(not BENCHMARKS, reason="not a checkout")
@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_what_it_imports_is_there(file):
    assert missing(ast.parse(file.read_text(encoding="utf-8"))) == []


def test_what_is_not_there_is_found():
    program = "from convscope.training.passes import learn, train_epoch\nfrom gpu import nothing"
    assert missing(ast.parse(program)) == ["convscope.training.passes.learn", "gpu.nothing"]
