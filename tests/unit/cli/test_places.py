"""Paths in commands: empty ones, home, variables, long names; whatever takes a path is found."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import convscope
from convscope.cli._main import app
from convscope.datasets.published import acquire
from convscope.errors import PathError
from convscope.models.weights import WEIGHTS_VARIABLE, weights_folders
from convscope.planning.settle import Request, settle_names
from convscope.progress import Progress
from convscope.run import Run

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")

TRAIN = "train --data digits --precision float32"
BACKBONE = "--model mobilenet_v2 --recipe tutorial-transfer"

# Each way to give a path, by the option or word under which the error names it.
PLACES = [
    (f"{TRAIN} --out", "--out"),
    (f"{TRAIN} --config", "--config"),
    ("train --data digits --data-dir", "--data-dir"),
    (f"{TRAIN} {BACKBONE} --weights", "--weights"),
    ("train --data", "--data"),
    ("train --resume", "RUN"),
    ("ladder mobilenet_v2 --data", "--data"),
    ("compare --models cnn-functional,cnn-sequential --data", "--data"),
    ("compare --models cnn-functional,cnn-sequential", "--data"),
    ("compare", "RUN"),
    ("data show --data", "--data"),
    ("data show digits --out", "--out"),
    ("data check --data", "--data"),
    ("data check digits --out", "--out"),
    ("data suspects --data", "--data"),
    ("data show digits --data-dir", "--data-dir"),
    ("models show cnn-functional --out", "--out"),
    ("predict", "RUN"),
    ("evaluate", "RUN"),
    ("explain", "RUN"),
    ("embed", "RUN"),
    ("similar", "RUN"),
    ("gallery", "RUN"),
    ("robustness", "RUN"),
    ("report", "RUN"),
    ("doctor", "RUN | CONFIG"),
    ("runs", "FOLDER"),
    ("runs clean", "FOLDER"),
    ("runs rm", "RUN"),
]


@posix
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "is empty; give a path"),
        ("$UNSET_HERE/x", "is '$UNSET_HERE/x', but the variable UNSET_HERE is not set"),
    ],
    ids=["empty", "not set"],
)
@pytest.mark.parametrize(("command", "option"), PLACES, ids=[command for command, _ in PLACES])
def test_an_empty_path_and_a_variable_that_is_not_set_are_a_line(
    cli, tmp_path, command, option, given, says
):
    more = ["another"] if command in ("predict", "explain", "embed", "similar", "compare") else []
    done = cli(*command.split(), given, *more)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.endswith("\n")
    assert f"error: {option} {says}" in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_option_that_takes_a_path_is_tried_above():
    def options(command):
        for each in command.params:
            if each.metavar == "PATH":
                yield each.opts[0]
        for inner in getattr(command, "commands", {}).values():
            yield from options(inner)

    found = set(options(typer.main.get_command(app)))
    assert found >= {"--out", "--config", "--weights", "--data-dir", "--data"}
    assert found <= {option for _, option in PLACES}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home folder with images of two classes in `pics`."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "home" / "pics" / name
        folder.mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PICS", str(tmp_path / "home" / "pics"))
    return tmp_path / "home"


@posix
@pytest.mark.parametrize("data", ["~/pics", "$HOME/pics", "${PICS}", "$PICS"])
def test_results_and_data_are_found_in_the_home_folder(cli, home, tmp_path, data):
    done = cli("data", "check", f"--data={data}", "--out=~/found/all.json")
    assert done.code == 0, done.err
    assert json.loads((home / "found" / "all.json").read_text())["n_images"] == 20
    assert [path.name for path in tmp_path.iterdir()] == ["home"], "no folder called ~"


@posix
def test_python_takes_the_same_paths(home):
    assert convscope.load("~/pics", progress=Progress()).name == "pics"
    assert convscope.load(Path("~/pics"), progress=Progress()).name == "pics"
    assert convscope.check("$PICS", progress=Progress()).n_images == 20
    run = Run.create(home / "runs" / "one", "")
    run.record(status="finished")
    assert Run.open("~/runs/one").path == run.path
    assert [each.path for each in Run.find_all("~/runs")] == [run.path]
    with pytest.raises(PathError, match="--data is empty"):
        convscope.load("", progress=Progress())


@posix
def test_settings_of_a_file_are_written_down_in_full(home):
    request = Request(
        {"precision": "float32", "model": "mobilenet_v2", "recipe": "tutorial-transfer"},
        {"data": "folder", "data_path": "${PICS}", "weights": "~/w.h5"},
    )
    config = settle_names(request, Progress())
    assert config.data_path == str((home / "pics").resolve())
    assert config.weights == str(home / "w.h5")


@posix
def test_variables_of_the_environment_may_name_home_and_others(home, monkeypatch):
    monkeypatch.setenv(WEIGHTS_VARIABLE, "~/weights")
    assert weights_folders()[0] == (f"${WEIGHTS_VARIABLE}", home / "weights")
    monkeypatch.setenv("KERAS_HOME", "$HOME/k")
    assert weights_folders()[1][1] == home / "k" / "models"
    monkeypatch.setenv(acquire.DATA_VARIABLE, "${UNSET_HERE}/x")
    with pytest.raises(PathError, match=r"\$CONVSCOPE_DATA is '\${UNSET_HERE}/x', but"):
        convscope.load("cifar10", progress=Progress())


@posix
def test_weights_are_kept_where_there_is_no_home(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", os.devnull)
    ((_, folder),) = weights_folders()
    assert folder == Path(os.environ["CONVSCOPE_CACHE"]) / "keras" / "models"


@posix
@pytest.mark.parametrize("letters", [235, 245, 255])
def test_a_data_folder_of_a_long_name_is_loaded_and_names_a_run(cli, home, tmp_path, letters):
    long = home / ("y" * letters)
    (home / "pics").rename(long)
    assert cli("data", "check", "--data", long).code == 0
    assert cli("data", "show", "--data", long, "--out", "x.png").code == 0
    dataset = convscope.load(long, progress=Progress())
    first, second = (Run.create(None, f"{dataset.name}-cnn-functional") for _ in range(2))
    assert len(first.name.encode()) <= 200
    assert second.name == f"{first.name}-2"


@posix
@pytest.mark.parametrize("n_bytes", [236, 246, 255])
@pytest.mark.parametrize("letter", ["y", "한"])
def test_an_image_of_a_long_name_is_predicted_and_explained(
    cli, digits_run, tmp_path, n_bytes, letter
):
    names = [letter * ((n_bytes - 5) // len(letter.encode())) + f"{k}.png" for k in range(2)]
    for name in names:
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "short.png")
        (tmp_path / "short.png").rename(tmp_path / name)
    assert cli("predict", digits_run, *names).code == 0
    done = cli("explain", digits_run, names[0], "--out", "pages", "--json")
    assert done.code == 0, done.err
    written = {f"pages/{each.name}" for each in (tmp_path / "pages").iterdir()}
    # The page and the explorer beside it.
    assert len(written) == 2
    assert all(name.endswith(".html") for name in written)
    assert json.loads(done.out)["explanations"][0]["page"] in written
