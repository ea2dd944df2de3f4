"""What all commands share: help, errors in one line, exit codes."""

import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import convscope
from convscope.cli import _main
from convscope.cli._main import EXTRA_OF, app
from convscope.evaluation.corruptions import CORRUPTIONS


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_commands_are_there():
    wanted = {"train", "evaluate", "predict", "data", "models", "datasets", "recipes", "runs"}
    wanted |= {"cache", "compare", "doctor", "explain", "gallery", "ladder", "report", "robustness"}
    wanted |= {"embed", "export", "serve", "similar", "studio", "tune", "tutorial"}
    assert {path[0] for path in COMMANDS if path} == wanted
    assert {("data", "show"), ("data", "check"), ("data", "suspects"), ("models", "show")} <= set(
        COMMANDS
    )
    assert {("runs", "list"), ("runs", "rm"), ("runs", "clean"), ("cache", "clear")} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_each_command_explains_itself_and_all_its_options(cli, path, option):
    done = cli(*path, option)
    command = COMMANDS[path]
    assert done.code == 0
    assert done.err == ""
    assert "Usage:" in done.out
    assert " ".join(("convscope", *path)) in done.out
    assert command.help
    assert command.help.split("\n")[0] in done.out
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{path}: {parameter.name} has no help"
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in done.out


@pytest.mark.parametrize(
    ("option", "used_by"),
    [
        (
            "--data-dir",
            {"train", "ladder", "evaluate", "data show", "data check", "compare", "report"},
        ),
        ("--data", {"compare", "data show", "data check", "data suspects"}),
        ("--data", {"evaluate", "gallery", "report", "robustness", "doctor", "similar"}),
        ("--json", {"models", "evaluate", "data check", "compare", "doctor"}),
        ("--batch-size", {"evaluate", "predict"}),
        ("--recipe", {"train", "models show"}),
        ("--image-size", {"train", "models show"}),
        ("--epochs", {"train", "ladder", "compare"}),
        ("--set", {"train", "ladder", "models show", "compare", "data suspects"}),
        ("--weights", {"train", "ladder", "compare"}),
        *(
            (option, {"train", "ladder", "compare", "data suspects", "tune"})
            for option in ("--ray", "--threads", "--gpus", "--memory")
        ),
        ("--weights", {"evaluate", "predict", "explain", "embed", "similar"}),
    ],
)
def test_an_option_that_commands_share_is_the_same_in_all(option, used_by):
    found = [
        parameter
        for command in used_by
        for parameter in COMMANDS[tuple(command.split())].params
        if option in parameter.opts
    ]
    assert len(found) == len(used_by)
    facts = {(each.help, each.metavar, each.default, each.multiple) for each in found}
    assert len(facts) == 1


@pytest.mark.parametrize("command", ["models show NAME", "data show digits"])
def test_a_picture_has_the_ending_of_one(cli, command):
    done = cli(*command.split(), "--out", "picture.txt")
    assert done.code == 2
    assert "picture.txt must end in .png or .svg or .pdf" in done.err


def test_the_help_of_robustness_names_the_corruptions(cli):
    words = " ".join(cli("robustness", "--help").out.replace("│", " ").split())
    assert f"Corruptions: {', '.join(CORRUPTIONS)}. Default: all." in words


def test_version(cli):
    assert cli("--version").out == f"convscope {convscope.__version__}\n"


def test_no_command_shows_the_help(cli):
    done = cli()
    text = done.out + done.err
    assert "Usage:" in text
    assert all(path[0] in text for path in COMMANDS if path)


def test_an_unknown_command_and_an_unknown_option_are_the_users_mistake(cli):
    done = cli("trian")
    assert done.code == 2
    assert "trian" in done.err
    assert "Traceback" not in done.err
    done = cli("train", "--epoch", "3")
    assert done.code == 2
    assert "--epochs" in done.err


def test_an_error_is_a_line_and_with_debug_also_a_traceback(cli):
    plain = cli("evaluate", "nowhere")
    assert plain.code == 2
    assert "Traceback" not in plain.err
    debug = cli("--debug", "evaluate", "nowhere")
    assert debug.code == 2
    assert debug.err.startswith("Traceback (most recent call last):")
    assert "RunError" in debug.err
    assert debug.err.endswith(plain.err)


def test_the_environment_asks_for_tracebacks_too(cli, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_DEBUG", "1")
    assert "Traceback" in cli("evaluate", "nowhere").err


def test_a_defect_is_a_line_that_says_so(cli, fails, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division by\nzero")

    monkeypatch.setattr("convscope.run.Run.find_all", broken)
    line = fails(1, "runs")
    assert "unexpected ZeroDivisionError: division by (" in line
    assert "CONVSCOPE_DEBUG=1" in line
    assert "find_all" in cli("--debug", "runs").err


class ResourceExhaustedError(Exception):
    """As TensorFlow calls it."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("Unable to allocate 8.00 GiB"), "Unable to allocate 8.00 GiB"),
        (MemoryError(), "MemoryError"),
        (OSError(12, "Cannot allocate memory"), "[Errno 12] Cannot allocate memory"),
        (ResourceExhaustedError("failed\n[Op:Conv2D]"), "failed"),
        (
            RuntimeError("Graph execution error:\n\nOOM when allocating tensor with shape[64,8]\n"),
            "OOM when allocating tensor with shape[64,8]",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes",
        ),
    ],
)
def test_too_little_memory_is_no_defect(fails, monkeypatch, error, told):
    def greedy(*_, **__):
        raise error

    monkeypatch.setattr("convscope.run.Run.find_all", greedy)
    line = fails(1, "runs")
    assert f"not enough memory ({told}); close other programs" in line
    assert "smaller --batch-size" in line
    assert "defect" not in line


def test_ctrl_c_outside_of_training_is_exit_code_130(cli, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.run.Run.find_all", interrupted)
    done = cli("runs")
    assert done.code == 130
    assert "Traceback" not in done.err
    # Before any command runs, while Python still imports things.
    monkeypatch.setattr(_main, "app", interrupted)
    assert cli("runs").code == 130


def test_python_dash_m_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "convscope", "evaluate", "no-such-run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no-such-run does not exist")
    assert done.stderr.count("\n") == 1


def test_looking_around_imports_no_framework():
    done = python(
        """
        import sys
        from convscope.cli import main
        for line in ["--help", "train --help", "predict -h", "models", "datasets", "recipes"]:
            sys.argv = ["convscope", *line.split()]
            try:
                main()
            except SystemExit as stopped:
                assert not stopped.code, line
        heavy = {"keras", "tensorflow", "jax", "torch", "matplotlib", "sklearn", "scipy", "pyarrow"}
        print("loaded:", sorted(heavy & set(sys.modules)), file=sys.stderr)
        """
    )
    assert done.stderr == "loaded: []\n"
    assert done.returncode == 0


# Python as it is where some packages are not installed.
WITHOUT = """
    import sys
    from importlib.machinery import PathFinder
    missing = set(sys.argv[1].split(","))
    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name.partition(".")[0] in missing:
                return None
            return super().find_spec(name, path, target)
    sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
    del sys.argv[1]
    from convscope.cli import main
    main()
"""


@pytest.mark.parametrize("missing", ["keras", ",".join(EXTRA_OF)], ids=["keras", "base"])
def test_training_without_the_extra_names_the_pip_command(tmp_path, missing):
    out = tmp_path / "run"
    done = python(WITHOUT, missing, "train", "--data", "digits", "--out", out)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert_names_an_extra(done.stderr)
    assert not out.exists()


@pytest.mark.parametrize(
    "command",
    [
        "evaluate RUN",
        "evaluate RUN --fresh",
        "predict RUN RUN/samples.png",
        "data show digits",
        "data check digits",
        "models show cnn-functional",
    ],
)
def test_the_base_install_says_what_a_command_lacks(tmp_path, monkeypatch, digits_run, command):
    monkeypatch.chdir(tmp_path)
    arguments = command.replace("RUN", str(digits_run)).split()
    done = python(WITHOUT, ",".join(EXTRA_OF), *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert_names_an_extra(done.stderr)


def assert_names_an_extra(said):
    backend = os.environ["KERAS_BACKEND"]
    extras = {"train"} if backend == "tensorflow" else {"train", backend}
    assert any(f"pip install 'convscope[{extra}]'" in said for extra in extras), said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", ["datasets", "--version", "--help", "models --json"])
def test_output_that_does_not_fit_on_the_disk_is_no_defect(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "convscope", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write the output (No space left on device); ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    for number in range(1_200):
        folder = tmp_path / f"run-{number:05}"
        folder.mkdir()
        (folder / "run.json").write_text('{"status": "finished", "created": "2026-01-01"}')
    writer = subprocess.Popen(
        [sys.executable, "-m", "convscope", "runs", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert "run" in writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == ""
    writer.stderr.close()
    assert writer.wait() == 0


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_an_error_has_no_colour_where_none_is_wanted(monkeypatch, variables, coloured):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", Terminal())
    _main._print_error("no images")
    said = sys.stderr.getvalue()
    assert ("\x1b[" in said) == coloured
    assert said.endswith("no images\n")


def test_a_server_whose_key_is_set_but_empty_does_not_start_open_to_all(fails, monkeypatch):
    for empty in ("", " "):
        monkeypatch.setenv("CONVSCOPE_API_KEY", empty)
        assert "the API key is empty" in fails(2, "serve", "none.onnx")
