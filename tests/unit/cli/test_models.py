"""`convscope models` and `convscope models show`."""

import pytest
from PIL import Image

from convscope.models import MODELS


def test_all_models_are_listed_with_a_line_each(cli):
    done = cli("models")
    assert done.code == 0
    lines = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert list(lines) == MODELS.names()
    assert {"cnn-functional", "cnn-sequential", "cnn-subclassing"} <= set(lines)
    for entry in MODELS.entries():
        assert entry.summary in lines[entry.name]


@pytest.mark.parametrize("name", ["cnn-functional", "cnn-sequential", "cnn-subclassing"])
def test_show_counts_and_draws_the_tutorials_network(cli, tmp_path, name):
    done = cli("models", "show", name)
    assert done.code == 0, done.err
    assert done.out.count("582,026") >= 2, "in the summary and at the end of the geometry sheet"
    words = " ".join(done.out.split())
    assert "floor((32 + 2*1 - 3)/1) + 1 = 32" in words
    assert "conv3" in words
    with Image.open(tmp_path / f"{name}.png") as picture:
        assert picture.format == "PNG"
        assert picture.convert("L").getextrema()[0] < 128
    assert done.out.endswith(f"picture  {name}.png\n")


def test_show_takes_another_input(cli, tmp_path):
    out = tmp_path / "pictures" / "small.png"
    done = cli(
        *("models", "show", "cnn-functional", "--image-size", 8, "--channels", 1),
        *("--classes", 3, "--out", out),
    )
    assert done.code == 0, done.err
    assert "cnn-functional, 8 x 8 x 1, 3 classes" in done.out
    # 3*3*1*32+32, 3*3*32*64+64, 3*3*64*64+64, 2*2*64*128+128, 128*3+3
    assert f"{320 + 18496 + 36928 + 32896 + 387:,}" in done.out
    assert out.exists()


def test_show_refuses(cli, fails, tmp_path):
    line = fails(2, "models", "show", "cnn-functionel")
    assert "unknown model 'cnn-functionel'; did you mean 'cnn-functional'?" in line
    line = fails(2, "models", "show", "cnn-functional", "--image-size", 3)
    assert "image size 3x3 is too small for this network" in line
    line = fails(2, "models", "show", "cnn-functional", "--channels", 2)
    assert "1 channel (grey) or 3 (RGB), not 2" in line
    done = cli("models", "show", "cnn-functional", "--classes", 1)
    assert done.code == 2
    assert "--classes" in done.err
    assert list(tmp_path.iterdir()) == []
