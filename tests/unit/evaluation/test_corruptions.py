"""Corruptions: stronger with each severity, the same for the same seed, harmless to their input."""

import json
import shutil

import numpy as np
import pytest

import convscope
from convscope.errors import ConfigError, UnknownNameError
from convscope.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from convscope.progress import Progress
from convscope.run import Run


def pictures(channels: int, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(4)
    coarse = rng.integers(20, 200, (6, side // 4, side // 4, channels))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_keeps_the_shape_and_grows_with_severity(name, channels):
    images = pictures(channels)
    before = images.copy()
    changes = []
    for severity in SEVERITIES:
        corrupted = corrupt(images, name, severity)
        assert corrupted.shape == images.shape
        assert corrupted.dtype == np.uint8
        changes.append(np.abs(corrupted.astype(int) - images).mean())
        np.testing.assert_array_equal(corrupted, corrupt(images, name, severity))
    np.testing.assert_array_equal(images, before)
    assert changes[0] > 0
    assert changes[-1] > changes[0]


def test_noise_has_the_spread_that_was_asked_for():
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    for severity, spread in zip(SEVERITIES, CORRUPTIONS["gaussian-noise"][1], strict=True):
        noise = corrupt(grey, "gaussian-noise", severity).astype(float) - 128
        assert noise.std() / 255 == pytest.approx(spread, rel=0.02)
    salt = corrupt(grey, "impulse-noise", 5)
    assert np.isin(salt, (0, 255)).mean() == pytest.approx(0.07, abs=0.005)


def test_a_blur_grows_with_the_image():
    small, large = pictures(1, 32), pictures(1, 32).repeat(2, axis=1).repeat(2, axis=2)
    twice = corrupt(small, "gaussian-blur", 5).repeat(2, axis=1).repeat(2, axis=2)
    apart = np.abs(corrupt(large, "gaussian-blur", 5).astype(int) - twice)
    assert apart.mean() < 0.25 * np.abs(twice.astype(int) - large).mean() + 2


def test_a_run_is_judged_on_them_and_the_test_images_stay_sealed(digits_run, tmp_path):
    shutil.copytree(digits_run, tmp_path / "run")
    run = Run(tmp_path / "run")
    options = {"corruptions": ["contrast", "jpeg"], "severities": [1, 5], "progress": Progress()}
    found = convscope.robustness(run, n_images=200, **options)
    assert found.n_images == 200
    assert found.accuracy["contrast"][1] < found.clean
    assert list(found.accuracy) == ["contrast", "jpeg"]
    assert "bears contrast worst" in found.conclusion
    assert json.loads(run.robustness_file.read_text())["clean"] == found.clean
    assert run.robustness_picture.exists()
    assert len(run.state["test_openings"]) == 1
    convscope.robustness(run, split="test", n_images=50, **options)
    assert run.state["test_openings"][-1]["by"] == "robustness"
    with pytest.raises(UnknownNameError, match="unknown corruption 'jpg'; did you mean 'jpeg'"):
        convscope.robustness(run, corruptions=["jpg"], progress=Progress())
    with pytest.raises(ConfigError, match="severity 6"):
        convscope.robustness(run, severities=[6], progress=Progress())
