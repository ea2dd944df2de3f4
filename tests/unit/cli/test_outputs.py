"""Where output goes: closed, full, in an encoding without the letters of a class name."""

import contextlib
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.cli import main
from convscope.run import Run

NAMES = ["고양이", "é", "😀", *"3456789"]

COMMANDS = {
    "evaluate": "evaluate RUN",
    "gallery": "gallery RUN",
    "doctor": "doctor RUN",
    "predict": "predict RUN IMAGE",
    "explain": "explain RUN IMAGE",
    "embed": "embed RUN IMAGE",
    "similar": "similar RUN IMAGE",
    "robustness": "robustness RUN -n 20 --severities 1 --corruptions brightness",
    "runs": "runs FOLDER",
    "models": "models",
    "datasets": "datasets",
    "recipes": "recipes",
    "cache": "cache",
    "data show": "data show --data digits",
    "models show": "models show cnn-functional",
}

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@pytest.fixture(scope="module")
def world(tmp_path_factory, digits_run) -> dict[str, str]:
    """A run whose classes have names in other letters, below a folder with such a name."""
    folder = tmp_path_factory.mktemp("바탕 화면") / 'it\'s "mine"'
    run = Run(folder / "run")
    shutil.copytree(digits_run, run.path)
    for file in (run.classes_file, *run.weights_dir.glob("*.json")):
        content = json.loads(file.read_text())
        if isinstance(content, list):
            content = NAMES
        else:
            content["class_names"] = NAMES
        file.write_text(json.dumps(content))
    image = folder / "고양이 1.png"
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(image)
    return {"RUN": str(run.path), "IMAGE": str(image), "FOLDER": str(folder)}


@pytest.fixture
def ended(monkeypatch, world, tmp_path) -> Callable[..., int]:
    """Run a command with these standard output and error; return its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVSCOPE_DEBUG", "")
    monkeypatch.setenv("COLUMNS", "160")

    def run(command: str, out: io.TextIOBase | None, err: io.TextIOBase | None) -> int:
        words = [world.get(word, word) for word in command.split()]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["convscope", *words])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as stopped:
                main()
        return int(stopped.value.code or 0)

    return run


def text_stream(encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode("utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_json_in_every_encoding_and_alone(ended, world, command, encoding):
    out, err = text_stream(encoding), text_stream(encoding)
    assert ended(f"{COMMANDS[command]} --json", out, err) == 0, written(err)
    found = json.loads(written(out))
    names = {
        "evaluate": lambda: list(found["test"]["per_class"]),
        "predict": lambda: list(found["predictions"][0]["probs"]),
        "explain": lambda: list(found["explanations"][0]["probs"]),
        "similar": lambda: list(found["probs"]),
    }
    if command in names:
        assert names[command]() == NAMES
    if command in ("predict", "explain"):
        (image,) = found[{"predict": "predictions"}.get(command, "explanations")]
        assert image["image"] == world["IMAGE"]


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain", "gallery"])
def test_a_table_in_an_encoding_without_the_letters_is_no_crash(ended, command):
    out, err = text_stream("ascii"), text_stream("ascii")
    assert ended(COMMANDS[command], out, err) == 0, written(err)
    assert "Traceback" not in written(err)
    assert written(out).count("\n") > 1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_csv_has_a_column_for_each_class(ended, encoding):
    out, err = text_stream(encoding), text_stream(encoding)
    assert ended("predict RUN IMAGE --format csv", out, err) == 0
    heading, row = csv.reader(written(out).splitlines())
    spelt = [name.encode(encoding, "backslashreplace").decode(encoding) for name in NAMES]
    assert heading == ["image", "class", *spelt]
    assert sum(map(float, row[2:])) == pytest.approx(1, abs=1e-5)


@full
@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS.values(),
        "predict RUN IMAGE --format csv",
        *(f"{COMMANDS[command]} --json" for command in ("evaluate", "predict", "runs", "cache")),
    ],
)
def test_output_on_a_full_disk_is_a_line(ended, command):
    err = text_stream()
    with Path("/dev/full").open("w") as out:
        assert ended(command, out, err) == 1
    last = written(err).splitlines()[-1]
    assert last.startswith("error: cannot write the output (No space left on device); ")


@pytest.mark.parametrize(
    "command",
    [
        *(COMMANDS[command] for command in ("evaluate", "predict", "runs", "data show")),
        "predict RUN IMAGE --format csv",
        "predict RUN IMAGE --json",
    ],
)
def test_output_that_is_closed_is_no_error(ended, command):
    err = text_stream()
    assert ended(command, None, err) == 0
    assert "error" not in written(err)


@contextlib.contextmanager
def left_pipe() -> Iterator[io.TextIOWrapper]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize(
    "command",
    [
        *(
            command
            for name, command in COMMANDS.items()
            if name not in ("doctor", "explain", "robustness")
        ),
        "predict RUN IMAGE --format csv",
        *(f"{COMMANDS[command]} --json" for command in ("evaluate", "models", "cache")),
        *("--help", "--version", "train --help", "recipes show fast"),
    ],
)
def test_output_whose_reader_has_left_is_no_error(ended, command):
    err = text_stream()
    with left_pipe() as out:
        assert ended(command, out, err) == 0
    assert "rror" not in written(err)


@pytest.mark.parametrize(
    ("command", "code"),
    [("data check --data photos", 1), ("runs --frob", 2), ("evaluate nowhere", 2)],
)
def test_a_reader_that_has_left_changes_no_exit_code(ended, world, tmp_path, command, code):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(world["IMAGE"], tmp_path / "photos" / name / "1.png")
    assert ended(command, text_stream(), text_stream()) == code
    with left_pipe() as out, left_pipe() as err:
        assert ended(command, out, err) == code


@full
@pytest.mark.parametrize("command", ["robustness", "explain", "data show"])
def test_progress_on_a_full_disk_stops_no_work(ended, command):
    out = text_stream()
    with Path("/dev/full").open("w") as err:
        assert ended(COMMANDS[command], out, err) == 0
    assert written(out)


def test_progress_on_a_closed_standard_error_stops_no_work(ended):
    out = text_stream()
    assert ended(COMMANDS["robustness"], out, None) == 0
    assert written(out)


@full
def test_an_error_that_cannot_be_told_has_its_exit_code(ended):
    with Path("/dev/full").open("w", buffering=1) as err:
        assert ended("evaluate nowhere", text_stream(), err) == 2
    assert ended("evaluate nowhere", text_stream(), None) == 2


def test_a_forbidden_folder_is_no_defect(ended, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied", "/shut/photos")

    monkeypatch.setattr("convscope.run.Run.find_all", forbidden)
    err = text_stream()
    assert ended("runs", text_stream(), err) == 1
    assert written(err) == "error: /shut/photos cannot be used (Permission denied)\n"
