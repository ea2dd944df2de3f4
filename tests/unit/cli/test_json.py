"""`--json`: every command that prints a table has it, and prints nothing else then."""

import io
import json
import math
import sys

import numpy as np
import pytest
import typer

from convscope.cli._json import print_json
from convscope.cli._main import app


def commands(command, path=()):
    inner = getattr(command, "commands", {})
    # A group that does something by itself is a command too.
    if not inner or command.invoke_without_command:
        yield " ".join(path), command
    for name, each in inner.items():
        yield from commands(each, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))

WITHOUT_A_TABLE = {
    "cache clear": "a line: what was freed",
    "recipes show": "settings, which are YAML to be saved and changed",
    "report": "two lines: where the pages are",
    "runs rm": "a line for each run that was removed",
}

GROUP = {"runs": "its list is the command 'runs list'"}


@pytest.mark.parametrize("name", COMMANDS.keys() - WITHOUT_A_TABLE.keys() - GROUP.keys())
def test_a_command_that_prints_a_table_has_json(name):
    options = {option for each in COMMANDS[name].params for option in each.opts}
    assert "--json" in options, "give it --json, or say above why it prints no table"


def test_the_exceptions_are_commands():
    assert WITHOUT_A_TABLE.keys() < COMMANDS.keys()
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", ["models", "datasets", "recipes", "cache", "runs", "runs list"])
def test_json_is_all_that_is_on_standard_output(cli, tmp_path, command):
    (tmp_path / "runs").mkdir()
    done = cli(*command.split(), "--json")
    assert done.code == 0
    assert done.err == ""
    found = json.loads(done.out)
    names = {"models": "networks", "cache": "parts"}
    rows = found[names[command]] if command in names else found
    assert rows or command.startswith("runs")
    assert all(isinstance(row, dict) for row in rows)


@pytest.mark.parametrize("command", ["datasets", "recipes"])
def test_lists_name_what_the_tables_name(cli, command):
    names = [row["name"] for row in json.loads(cli(command, "--json").out)]
    table = {line.split()[0] for line in cli(command).out.splitlines()[1:]}
    assert {"PATH" if name == "folder" else name for name in names} == table


def parsed(content, monkeypatch, encoding="utf-8", errors="backslashreplace"):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        print_json(content)
        out.flush()
    text = out.buffer.getvalue().decode(encoding)
    assert "NaN" not in text
    assert "Infinity" not in text
    return json.loads(text)


def test_what_is_no_number_is_null(monkeypatch):
    content = {"a": math.nan, "b": [np.float32("nan"), np.inf, -math.inf], "c": (1.5, np.int64(2))}
    content["d"] = np.array([[1.0, np.nan]])
    assert parsed(content, monkeypatch) == {
        "a": None,
        "b": [None, None, None],
        "c": [1.5, 2],
        "d": [[1.0, None]],
    }


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_names_are_the_same_in_every_encoding(monkeypatch, encoding):
    names = {"고양이": "é", "😀": "x\udce9y"}
    assert parsed(names, monkeypatch, encoding) == names
