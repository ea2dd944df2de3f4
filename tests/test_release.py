"""What is in the wheel and in the source archive; `make release` also installs and tries them."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import convscope

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="it builds them: pip install -e '.[dev]'")
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not a checkout")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


def sources() -> set[str]:
    """The files of the package, as git would have them."""
    files = (ROOT / "src" / "convscope").rglob("*")
    kept = {file for file in files if file.is_file() and "__pycache__" not in file.parts}
    return {file.relative_to(ROOT / "src").as_posix() for file in kept}


def test_both_bear_the_version_of_the_package(built):
    name = f"convscope-{convscope.__version__}"
    assert {file.name for file in built.iterdir()} == {
        f"{name}.tar.gz",
        f"{name}-py3-none-any.whl",
    }


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        facts = wheel.read(f"convscope-{convscope.__version__}.dist-info/METADATA").decode()
    inside = {name for name in names if not name.startswith("convscope-")}
    assert inside == sources()
    assert inside >= {"convscope/py.typed", "convscope/report/templates/page.html"}
    assert f"Version: {convscope.__version__}\n" in facts


def test_the_source_archive_holds_no_runs_caches_or_environments(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    tops = {name.partition("/")[0] for name in names}
    assert tops == {
        *(".ci", "benchmarks", "deploy", "docs", "notebooks", "src", "tests"),
        *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md"),
        *(".gitignore", "PKG-INFO", "constraints.txt", "pyproject.toml"),
    }
    assert {name.removeprefix("src/") for name in names if name.startswith("src/")} == sources()
    parts = {part for name in names for part in name.split("/")}
    assert not parts & {"__pycache__", "runs", ".venv", ".git", ".pytest_cache", "dist", "build"}
    ours = [name for name in names if not name.startswith("tests/")]
    assert not any(name.endswith((".pyc", ".keras", ".npz", ".parquet")) for name in ours)
