"""How the parts hang together: who imports whom, and what it costs to begin."""

import ast
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import convscope
from convscope.machine import RUN_MODULE

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "convscope"

# What takes long to import, and what the base install lacks.
HEAVY = {
    *("jax", "keras", "matplotlib", "sklearn", "tensorflow", "torch"),
    *("h5py", "mlflow", "onnxruntime", "pooch", "pyarrow", "requests", "scipy"),
}


def loaded_by(code: str) -> list[str]:
    """Return which of the heavy packages are loaded after `code` ran in a new process."""
    ending = f"import sys; print('loaded', *sorted(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_check_of_this_file_sees_what_is_loaded():
    assert loaded_by("import scipy") == ["scipy"]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a checkout")
def test_stages_import_along_the_way_of_the_data():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_a_breach_of_the_contract_would_be_noticed(tmp_path):
    # The same contract on a copy in which a dataset looks at the training.
    copied = tmp_path / "src" / "convscope"
    for file in SOURCE.rglob("*.py"):
        target = copied / file.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    with (copied / "datasets" / "division" / "splits.py").open("a") as file:
        file.write("\nimport convscope.training.results\n")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "convscope.datasets.division.splits" in done.stdout
    assert "1 kept, 1 broken" in done.stdout


def test_no_folder_hides_a_verb_of_its_name():
    import convscope.explain.gradcam
    import convscope.report.figures

    for name in convscope.__all__:
        assert callable(getattr(convscope, name)), name


def test_nobody_imports_a_private_file_of_another_folder():
    import grimp

    graph = grimp.build_graph("convscope")
    assert "convscope.datasets.checks._twins" in graph.modules
    breaches = [
        f"{importer} imports {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        for folder, dot, name in [imported.partition("._")]
        if dot and not name.startswith("_") and not f"{importer}.".startswith(f"{folder}.")
    ]
    assert breaches == []


def test_from_a_file_to_an_answer_nothing_heavy_is_loaded():
    code = "import convscope.classifier.classify, convscope.images.decode; import sys; " + (
        "assert 'pydantic' not in sys.modules and 'yaml' not in sys.modules"
    )
    assert loaded_by(code) == []


@pytest.mark.parametrize(
    "code",
    [
        "import convscope; convscope.errors.UserError; convscope.serving.app",
        "import convscope; convscope.__all__; dir(convscope)",
        "import convscope; [getattr(convscope, name) for name in convscope.__all__]",
        "import convscope.cli",
        "from convscope.models import MODELS; assert MODELS.names()",
        "from convscope.datasets import DATASETS; assert DATASETS.names()",
        "from convscope.recipes import RECIPES; assert RECIPES.names()",
    ],
    ids=["modules", "convscope", "all names", "cli", "models", "datasets", "recipes"],
)
def test_beginning_loads_no_framework(code):
    assert loaded_by(code) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "--help"], ["models"], ["datasets"]]
)
def test_the_command_line_starts_without_a_framework(arguments):
    code = f"""
import runpy, sys
sys.argv = ["convscope", *{arguments!r}]
try:
    runpy.run_module("convscope", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
"""
    assert loaded_by(code) == []


def test_what_keras_keeps_private_is_used_in_one_file():
    # Underscore attributes that a file uses and does not make itself.
    foreign = set()
    for file in SOURCE.rglob("*.py"):
        made, used = set(), set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                made.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
            elif isinstance(node, ast.Attribute):
                (made if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        # Of os, documented; of Optuna, the only way to go on with a trial.
        used -= {"_exit", "_trial_id"}
        foreign |= {(file.name, name) for name in used - made if re.match("_[^_]", name)}
    assert {name for name, _ in foreign} == {"keras_private.py"}
    assert len(foreign) == 4


def test_a_process_of_ours_imports_nothing_from_the_working_folder():
    assert (sys.executable, "-P", "-m") == RUN_MODULE
    for file in SOURCE.rglob("*.py"):
        others = file.name != "machine.py" and "sys.executable" in file.read_text(encoding="utf-8")
        assert not others, file


def test_help_is_what_the_module_prints():
    done = subprocess.run(
        [sys.executable, "-m", "convscope", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: " in done.stdout
    for command in ("train", "evaluate", "predict", "models", "datasets", "recipes", "runs"):
        assert command in done.stdout


def test_public_names_are_sorted_and_exist():
    assert convscope.__all__ == sorted(convscope.__all__)
    assert len(set(convscope.__all__)) == len(convscope.__all__)
    for name in convscope.__all__:
        assert getattr(convscope, name).__doc__
    assert set(convscope.__all__) <= set(dir(convscope))
    namespace: dict[str, object] = {}
    exec("from convscope import *", namespace)
    assert namespace.keys() >= set(convscope.__all__)
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = convscope.evalute


def test_commands_that_are_printed_are_quoted():
    """A path in a command comes from `wording.command_line`, which quotes it for the shell."""
    found = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            for text, value in itertools.pairwise(node.values):
                if not isinstance(text, ast.Constant) or not isinstance(value, ast.FormattedValue):
                    continue
                if re.search(r"convscope( [a-z]+)+( --?[a-z-]+)* $", text.value):
                    found.append(f"{file.relative_to(SOURCE)}:{node.lineno}: {text.value}")
    assert found == []


def test_files_are_named_by_their_idea():
    names = {file.name for file in SOURCE.rglob("*.py")}
    assert names.isdisjoint({"utils.py", "helpers.py", "common.py", "misc.py"})


def test_a_paragraph_about_a_file_has_one_margin():
    """Within one, an indented line would be shown as a quotation."""
    wrong = []
    for file in sorted(SOURCE.rglob("*.py")):
        about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")), clean=False) or ""
        wrong += [
            f"{file.relative_to(SOURCE)}: {line.strip()}"
            for before, line in itertools.pairwise(about.splitlines())
            if re.match(r"\S.*[^:]$", before) and line.startswith(" ")
        ]
    assert wrong == []


def test_names_of_tests_are_the_same_in_every_process():
    """The elements of a set come in another order in each: workers would collect other tests."""
    files = sorted((Path(__file__).parent).rglob("test_*.py"))
    assert len(files) > 100
    wrong = [
        f"{file.name}:{call.lineno}"
        for file in files
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).endswith("parametrize")
        and any(
            key.arg == "ids" and ast.unparse(key.value) in ("str", "repr") for key in call.keywords
        )
        and any(isinstance(part, ast.Set) and len(part.elts) > 1 for part in ast.walk(call))
    ]
    assert wrong == []


def test_who_opens_the_test_images_logs_it():
    """What only copies or compares them says so, by `SealedSplit.unjudged`, and opens nothing."""
    silent = [
        f"{file.relative_to(SOURCE)}:{call.lineno}"
        for file in SOURCE.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".open")
        if any(isinstance(given, ast.Lambda) for given in call.args)
    ]
    assert silent == []
    users = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if ".unjudged()" in file.read_text(encoding="utf-8")
    }
    assert users == {
        "datasets/checks/check.py",
        "datasets/division/near.py",
        "datasets/labelled_images.py",
        "datasets/sharded/source.py",
        "diagnosis/leaks.py",
    }
