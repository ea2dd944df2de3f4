"""`convscope ladder`: what it hands on, what it prints, how it stops."""

from pathlib import Path

import pytest

import convscope
from convscope.studies.ladder.rungs import Ladder, Rung

RUNGS = (
    *(
        Rung(
            1, "as the tutorial", "32 px", "the start", 32, "rungs/01", 0.25, None, 0.26, 4.0, 2.0
        ),
    ),
    Rung(2, "own scaling", "[-1, 1]", "own scaling", 32, "rungs/02", failure="no [bold] luck"),
    Rung(
        3,
        "64 px",
        "instead of 32 px",
        "64 px instead of 32",
        64,
        "rungs/03",
        0.75,
        0.5,
        0.74,
        9.0,
        2,
    ),
)
DONE = Ladder(Path("somewhere"), "tiny on digits", 1_000, RUNGS)


def test_options_reach_the_verb_and_the_table_is_printed(cli, monkeypatch):
    given = {}

    def ladder(model, **options):
        given.update(options, model=model)
        options["after_rung"](DONE)
        return DONE

    monkeypatch.setattr(convscope, "ladder", ladder)
    done = cli(
        *("ladder", "mobilenet_v2", "--data", "digits", "--sizes", "64,128", "--seed", 2),
        *("--set", "optimizer.momentum=0.5", "--epochs", 3),
    )
    assert done.code == 0, done.err
    given.pop("after_rung")
    assert given == {
        **{
            "model": "mobilenet_v2",
            "data": "digits",
            "labels": None,
            "seed": 2,
            "sizes": [64, 128],
            "until": None,
            "epochs": 3,
        },
        **{"weights": None, "settings": {"optimizer.momentum": 0.5}, "out": None, "data_dir": None},
        "executor": None,
    }
    for text in (done.out, done.err):
        lines = [line.split() for line in text.splitlines()]
        assert [
            "1",
            "as",
            "the",
            "tutorial",
            "32",
            "px",
            "0.2500",
            "0.2600",
            "4",
            "s",
            "2",
            "s",
        ] in lines
        assert "rung 2 failed: no [bold] luck" in text
        assert "+0.5000" in text
    said = (
        "With this seed, own scaling with 64 px instead of 32 gave all 50 points from 25.0% to "
        "75.0%."
    )
    assert said in done.out
    # 1.96 * sqrt(2 * 0.75 * 0.25 / 1000)
    assert "With 1,000 validation images, differences of up to 3.8 points near 75%" in done.out
    assert "somewhere/ladder.png" in done.out


def test_ctrl_c_says_how_to_go_on(cli, monkeypatch):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(convscope, "ladder", stopped)
    done = cli("ladder", "vgg16", "--set", "batch_size=64", "--out", "my ladder", "--epochs", 2)
    assert done.code == 130
    assert done.out == ""
    assert done.err == (
        "\nStopped. Finished rungs are kept; resume with: convscope ladder vgg16 --data cifar10 "
        "--seed 83 --sizes 64,96,160 --epochs 2 --set batch_size=64 --out 'my ladder'\n"
    )


@pytest.mark.parametrize("sizes", ["64;96", "big", "64,9.5"])
def test_sizes_are_numbers(cli, sizes):
    done = cli("ladder", "vgg16", "--data", "digits", "--sizes", sizes)
    assert done.code == 2
    assert "must be numbers of pixels" in done.err


def test_a_mistake_is_one_line_and_leaves_nothing_behind(fails):
    message = fails(2, "ladder", "cnn-functional", "--data", "digits")
    assert "cnn-functional is trained from scratch; a ladder needs a pretrained backbone" in message
    assert list(Path.cwd().iterdir()) == []
