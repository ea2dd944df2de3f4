"""`--json`: every command that prints a table has it, and prints nothing else then."""

import io
import json
import math
import sys
import types

import numpy as np
import pytest
import typer

from convscope.cli._json import print_json
from convscope.cli._main import app
from convscope.evaluation.telling import Seen
from convscope.run import Run
from convscope.studies.ladder.rungs import Ladder, Rung
from convscope.studies.suspects import Suspicions


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
    "serve": "a line: the address; the log is JSON",
    "studio": "a line: the address",
    "runs rm": "a line for each run that was removed",
}

GROUP = {"runs": "its list is the command 'runs list'"}


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - WITHOUT_A_TABLE.keys() - GROUP.keys()))
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
    assert {{"folder": "PATH", "shards": "PLACE"}.get(name, name) for name in names} == table


@pytest.fixture
def verbs(monkeypatch, tmp_path):
    """The verbs that train, with something finished in the place of their work."""
    run = Run.create(tmp_path / "run", "")
    run.write_json(run.metrics_file, {"test": {"accuracy": 0.75}})
    rung = Rung(1, "frozen", "", "freezing", 32, "rungs/1", val_accuracy=math.nan)
    seen = Seen("a.png", "고양이", "dog", 0.9, 0.1)
    comparison = types.SimpleNamespace(state_file=tmp_path / "comparison.json")
    comparison.state_file.write_text('{"conclusion": "no difference"}')
    done = {
        "train": run,
        "ladder": Ladder(tmp_path, "a ladder", 100, (rung,)),
        "suspects": Suspicions(tmp_path, 10, 0.5, (seen,)),
        "compare_runs": comparison,
        "tune": comparison,
    }
    for name, result in done.items():
        monkeypatch.setattr(f"convscope.{name}", lambda *_, r=result, **__: r, raising=False)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("train", {"test": {"accuracy": 0.75}}),
        ("ladder mobilenet_v2", {"about": "a ladder"}),
        ("data suspects digits", {"n_images": 10, "accuracy": 0.5}),
        ("compare a b", {"conclusion": "no difference"}),
        ("tune digits", {"conclusion": "no difference"}),
    ],
)
def test_what_trains_ends_in_json(cli, verbs, command, found):
    done = cli(*command.split(), "--json")
    assert done.code == 0, done.err
    content = json.loads(done.out)
    assert content.items() >= found.items()
    if "rungs" in content:
        assert content["rungs"][0]["val_accuracy"] is None
    if "suspects" in content:
        assert content["suspects"][0]["class_name"] == "고양이"


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
