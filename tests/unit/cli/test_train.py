"""`convscope train`: what it refuses before anything is made, and where settings come from."""

import re
from pathlib import Path

import pytest
import yaml

from convscope.recipe import FORMAT
from convscope.run import Run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model cnn-sequental", "unknown model 'cnn-sequental'; did you mean 'cnn-sequential'?"),
        ("--recipe tutorail", "unknown recipe 'tutorail'; did you mean 'tutorial'?"),
        ("--data cifar-10", "unknown dataset 'cifar-10'; did you mean 'cifar10'?"),
        ("--set optimiser.momentum=0.9", "did you mean 'optimizer.momentum'?"),
        ("--set momentum=0.9", "unknown setting 'momentum'; did you mean 'optimizer.momentum'?"),
        (
            "--set optimizer=sgd",
            "'optimizer' is a group; set one of: optimizer.bias_rate",
        ),
        ("--set epochs", "--set epochs: must have the form key=value"),
        ("--set split.val_fraction=1.5", "split.val_fraction: input should be less than 1"),
        ("--epochs 0", "epochs: input should be greater than or equal to 1, not 0"),
        ("--lr=-1", "optimizer.learning_rate: input should be greater than 0, not -1.0"),
        ("--lr nan", "optimizer.learning_rate: input should be a finite number"),
        ("--seed=-1", "seed: input should be greater than or equal to 0"),
        ("--image-size 0", "image_size: input should be greater than or equal to 1"),
        ("--precision float64", "precision: input should be 'auto', 'float32' or 'bfloat16'"),
        ("--backend theano", "backend: input should be 'auto', 'tensorflow', 'jax' or 'torch'"),
        ("--data photos/", "/photos"),
        ("--data folder", "give the folder itself: --data PATH"),
        ("--config none.yaml", "there is no configuration file none.yaml"),
        ("--tracker tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("--image-size 3", "image size 3x3 is too small for this network"),
        ("RUN", "to resume a run: --resume RUN"),
        ("--resume", "say which run to resume: convscope train --resume RUN"),
        ("--resume RUN", "RUN does not exist; 'convscope runs' lists the runs below runs/"),
        ("--resume RUN --out RUN", "give the run to resume once"),
        ("--devices 2", "--devices is all, not '2'; omit it for one device"),
        ("--devices all --minutes 3", "speeds are measured on one device; give --epochs"),
        ("--devices all --target 92", "speeds are measured on one device; give --epochs"),
        ("--devices all --folds 3", "--folds and --devices cannot be combined"),
        ("--devices all --recipe auto", "name --model and --recipe"),
        ("--devices all --backend torch", "--devices all trains with backend jax, not torch"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(fails, arguments, message):
    given = arguments.split()
    if "--data" not in given:
        given += ["--data", "digits"]
    if "--precision" not in given:
        given += ["--precision", "float32"]
    assert message in fails(2, "train", *given)
    assert list(Path.cwd().iterdir()) == []


def test_a_value_that_is_no_number_is_a_mistake(cli):
    done = cli("train", "--data", "digits", "--epochs", "many")
    assert done.code == 2
    assert "Invalid value for '--epochs'" in done.err


@pytest.mark.parametrize(
    "content",
    [
        f"format: {FORMAT + 1}\n",
        f"format: {FORMAT + 1}\nrecipe: from-the-future\n",
        f"format: {FORMAT + 1}\ndata: from-the-future\nmodel: from-the-future\n",
        f"format: {FORMAT + 1}\nneurons: 86000000000\n",
    ],
)
def test_a_configuration_of_a_newer_version_is_named_as_such(fails, tmp_path, content):
    config = tmp_path / "newer.yaml"
    config.write_text(content)
    line = fails(2, "train", "--config", config, "--data", "digits")
    assert f"format {FORMAT + 1}" in line
    assert "upgrade convscope" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs: 3\n  seed: 4\n", "is not valid YAML, line 2"),
        ("- epochs\n", "must hold settings as 'key: value' lines"),
        ("epoch: 3\n", "unknown setting 'epoch'; did you mean 'epochs'?"),
        ("optimizer: {momentun: 0.9}\n", "did you mean 'optimizer.momentum'?"),
    ],
)
def test_a_configuration_that_cannot_be_used(fails, tmp_path, content, message):
    config = tmp_path / "run.yaml"
    config.write_text(content)
    assert message in fails(2, "train", "--config", config, "--data", "digits")


def test_a_taken_folder_is_refused_and_kept(fails, tmp_path, digits_run):
    before = Run.open(digits_run).state
    arguments = ("train", "--data", "digits", "--precision", "float32", "--out")
    line = fails(2, *arguments, digits_run)
    assert f"continue it with: convscope train --resume {digits_run}" in line
    assert Run.open(digits_run).state == before

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "choose another --out" in fails(2, *arguments, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]

    assert "is a file" in fails(2, *arguments, tmp_path / "mine" / "thesis.txt")
    line = fails(1, *arguments, tmp_path / "mine" / "thesis.txt" / "run")
    assert "there is a file where a folder must be" in line
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_options_beat_set_and_set_beats_the_file_and_the_file_beats_the_recipe(cli, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "seed: 1\nepochs: 7\nbatch_size: 32\ndata: digits\noptimizer: {name: sgd, momentum: 0.1}\n"
    )
    done = cli(
        *("train", "--config", "run.yaml", "--epochs", "1", "--set", "epochs=9", "--lr", "0.05"),
        *("--set", "optimizer.momentum=0.9", "--set", "judge=best", "--batch-size", "256"),
        *("--set", "precision=float32"),
    )
    assert done.code == 0, done.err
    (run,) = Run.find_all(Path("runs"))
    config = yaml.safe_load(run.config_file.read_text())
    assert run.name == "digits-cnn-sequential-tutorial-seed1"
    assert config["seed"] == 1
    assert config["epochs"] == 1
    assert config["batch_size"] == 256
    assert config["judge"] == "best"
    assert config["optimizer"]["name"] == "sgd"
    assert config["optimizer"]["momentum"] == 0.9
    assert config["optimizer"]["learning_rate"] == 0.05

    # What is printed: the numbers of metrics.json, and files that are there.
    test = run.metrics["test"]
    low, high = test["accuracy_interval_95"]
    wanted = f"accuracy {test['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})"
    assert f"test {wanted}" in done.out
    assert "test images opened 1 time in this run" in done.out
    shown = dict(re.split("  +", line) for line in done.out.strip().splitlines()[-4:])
    assert list(shown) == ["curves", "confusion matrix", "model", "run"]
    assert all((tmp_path / path).exists() for path in shown.values())
    assert shown["model"].endswith("best.keras")
    assert f"Run folder: {run.path}" in done.err


def test_set_twice_the_last_one_counts_and_values_are_yaml(fails):
    line = fails(2, "train", "--data", "digits", "--set", "epochs=1", "--set", "epochs=[2]")
    assert line == "error: epochs: input should be a valid integer, not [2]\n"


def test_ctrl_c_before_there_is_a_run_promises_nothing(cli, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.planning.data.load_undivided", interrupted)
    done = cli("train", "--data", "digits", "--precision", "float32", "--out", "run")
    assert done.code == 130
    assert "--resume" not in done.err
    assert "Stopped before training began" in done.err
    assert list(tmp_path.iterdir()) == []
