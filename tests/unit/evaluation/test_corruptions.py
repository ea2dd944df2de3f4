"""Corruptions: those of the source pixel by pixel, and an accuracy in flat memory."""

import json
import shutil
import tracemalloc
from typing import ClassVar

import numpy as np
import pytest

import convscope
from convscope.errors import ConfigError, UnknownNameError
from convscope.evaluation.corruptions import CORRUPTIONS, SEVERITIES, answers_under, corrupt
from convscope.evaluation.multi_label import score_of_answers
from convscope.evaluation.robustness import accuracy_under_all
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import ImageView, Split


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


def table(text: str) -> dict[tuple[str, int], list[float]]:
    """Return the numbers of each line by its first two words, a corruption and a severity."""
    lines = [line.split() for line in text.strip().splitlines()]
    return {(name, int(severity)): [float(n) for n in rest] for name, severity, *rest in lines}


def golden_picture() -> np.ndarray:
    """Waves, a ramp and a texture in 32 x 32 pixels, with a black and a white bar."""
    rows, columns = np.mgrid[:32, :32]
    wave = 128 + 90 * np.sin(rows / 3) * np.cos(columns / 5)
    texture = (rows * 37 + columns * 101 + (rows * columns) % 17 * 13) % 61
    planes = [wave * 0.9 + texture * 0.5, columns * 7 + texture * 0.3, 255 - rows * 8]
    picture = np.stack(planes, axis=-1)
    picture[12:16, 8:20] = 0
    picture[20:22, 25:30] = 255
    return picture.clip(0, 255).astype(np.uint8)


SPOTS = [(0, 31), (5, 9), (13, 8), (21, 25)]
"""Rows and columns: a corner, plain picture, an end of the black and of the white bar."""

GOLDEN = table(
    """
gaussian-blur 1  127.1 223.3 254.7  105.5  68.2   215      5   2.5   6.1  245.9   249 241.4
gaussian-blur 2  133.1 223.9 253.6  107.5  69.1   215     21  10.4  25.7  219.7 231.8 201.8
gaussian-blur 3    135 223.8 253.2  108.5  69.5   215   27.3  13.5  33.8  210.5 225.7 187.9
gaussian-blur 4  136.5 223.6 252.8  109.3  69.9   215   32.6  16.1  40.7  203.2   221 177.2
gaussian-blur 5  138.9 223.1 252.1  110.7  70.4   215   41.7  20.6  52.7  191.8 213.8   161
contrast      1  124.2 195.4 222.7  109.2  79.1 192.7   30.5  28.1  31.4  221.7 219.4 222.7
contrast      2  123.5 167.8 190.4  113.5  90.3 170.4     61  56.3  62.9  188.5 183.8 190.4
contrast      3  123.2 156.7 177.4  115.2  94.7 161.4   73.2  67.5  75.4  175.2 169.5 177.4
contrast      4  122.9 145.7 164.5  116.9  99.2 152.5   85.4  78.8    88  161.9 155.3 164.5
contrast      5  122.4 129.1 145.1  119.4 105.9 139.1  103.7  95.7 106.9  141.9 133.9 145.1
brightness    1    125   223   255  111.2    72 227.8   12.8  12.8  12.8    255   255   255
brightness    2    125   223   255  117.5  76.1 240.5   25.5  25.5  25.5    255   255   255
brightness    3    125   223   255  123.7  80.1 253.2   38.2  38.2  38.2    255   255   255
brightness    4    125   223   255  124.5  80.7   255     51    51    51    255   255   255
brightness    5    125   223   255  124.5  80.7   255   76.5  76.5  76.5    255   255   255
jpeg          1    142   227   255    103    63   211     16     0    35    235   255   195
jpeg          2    148   224   238    109    69   204     19     0    39    222   255   185
jpeg          3    151   222   250    113    71   217     14     0    35    226   255   177
jpeg          4    153   223   248    113    71   207     13     0    37    216   255   166
jpeg          5    151   224   241    106    73   212     19     0    46    215   255   166
pixelate      1    125   223   255    105    68   215     63    31    76    255   255   255
pixelate      2    125   223   255    105    68   215      0     0     0    255   255   255
pixelate      3    125   223   255     93    69   215      0     0     0    195   215   167
pixelate      4    125   223   255     95    69   211      0     0     0    204   220   167
pixelate      5    143   223   251    117    67   215      0     0     0    200   219   171
    """
)
"""Red, green and blue at `SPOTS` of the golden picture, by corruption and severity: what the
functions of `ImageNet-C/create_c/make_cifar_c.py` give (github.com/hendrycks/robustness, commit
ca36008; scikit-image 0.26, Pillow 13)."""


@pytest.mark.parametrize(("name", "severity"), GOLDEN)
def test_pixels_are_those_of_the_source(name, severity):
    corrupted = corrupt(golden_picture()[None], name, severity)[0]
    pixels = [value for spot in SPOTS for value in corrupted[spot]]
    # Rounding; and JPEG libraries may differ by a level.
    tolerance = 1 if name == "jpeg" else 0.56
    np.testing.assert_allclose(pixels, GOLDEN[name, severity], rtol=0, atol=tolerance)


NOISE = table(
    """
gaussian-noise 1   10.88   8.80   128.00  10.20   229.98  10.13
gaussian-noise 2   12.36  12.03   128.00  15.29   229.67  14.62
gaussian-noise 3   14.10  15.12   128.01  20.40   228.92  18.49
gaussian-noise 4   15.00  16.63   127.98  22.95   228.38  20.28
gaussian-noise 5   15.94  18.15   128.00  25.49   227.80  21.99
shot-noise     1   10.00   2.26   128.01   8.08   229.96  10.71
shot-noise     2   10.00   3.19   128.00  11.43   229.64  14.57
shot-noise     3   10.00   5.05   128.00  18.06   228.01  20.90
shot-noise     4   10.00   5.83   127.99  20.86   227.03  23.29
shot-noise     5   10.00   7.14   127.99  25.56   225.18  27.11
impulse-noise  1   11.19  17.38   127.99  12.71   228.98  16.31
impulse-noise  2   12.36  24.45   127.99  18.08   227.96  23.01
impulse-noise  3   13.54  29.88   127.98  22.07   226.92  28.20
impulse-noise  4   15.87  38.32   127.98  28.48   224.86  36.27
impulse-noise  5   18.22  45.12   127.99  33.74   222.84  42.65
    """
)
"""Mean and standard deviation of the values of plain images of brightness 10, 128 and 230, by
corruption and severity: what the same functions give, over 12 million draws each."""


@pytest.mark.parametrize(("name", "severity"), NOISE)
def test_noise_spreads_values_as_in_the_source(name, severity):
    found = []
    for value in (10, 128, 230):
        noisy = corrupt(np.full((50, 64, 64, 3), value, np.uint8), name, severity).astype(float)
        found += [noisy.mean(), noisy.std()]
    np.testing.assert_allclose(found[::2], NOISE[name, severity][::2], atol=0.3)
    np.testing.assert_allclose(found[1::2], NOISE[name, severity][1::2], rtol=0.025)


def test_every_corruption_and_severity_is_compared_with_the_source():
    wanted = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    assert sorted([*GOLDEN, *NOISE]) == sorted(wanted)


def test_brightness_turns_black_into_grey_in_colour_and_in_grey_images():
    for channels in (1, 3):
        black = corrupt(np.zeros((1, 4, 4, channels), np.uint8), "brightness", 5)
        nearly = corrupt(np.ones((1, 4, 4, channels), np.uint8), "brightness", 5)
        np.testing.assert_allclose(black, 0.3 * 255, atol=0.51)
        np.testing.assert_allclose(nearly, 0.3 * 255 + 1, atol=0.51)


def test_a_blur_grows_with_the_image():
    small, large = pictures(1, 32), pictures(1, 32).repeat(2, axis=1).repeat(2, axis=2)
    twice = corrupt(small, "gaussian-blur", 5).repeat(2, axis=1).repeat(2, axis=2)
    apart = np.abs(corrupt(large, "gaussian-blur", 5).astype(int) - twice)
    assert apart.mean() < 0.25 * np.abs(twice.astype(int) - large).mean() + 2


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_batches_of_any_size_become_what_all_become_at_once(name):
    images = pictures(3)
    batches = [corrupt(images[i : i + 2], name, 3, first=i) for i in range(0, 6, 2)]
    np.testing.assert_array_equal(np.concatenate(batches), corrupt(images, name, 3))


def test_each_image_seed_and_severity_has_noise_of_its_own():
    grey = np.full((2, 8, 8, 3), 128, np.uint8)
    one, other = corrupt(grey, "gaussian-noise", 1)
    assert (one != other).any()
    assert (one != corrupt(grey, "gaussian-noise", 1, seed=84)[0]).any()
    # The same draws, larger, would be no new images.
    stronger = corrupt(grey, "gaussian-noise", 5)[0]
    assert np.corrcoef(one.ravel(), stronger.ravel())[0, 1] < 0.5


class ByBrightness:
    """Says class 1 if the first value of an image is at least 128."""

    def predict_on_batch(self, images: np.ndarray, /) -> np.ndarray:
        bright = images[:, 0, 0, 0] >= 128
        return np.stack([~bright, bright], axis=1).astype(np.float32)


def accuracy_under(
    classifier: ByBrightness, split: Split, *how: object, **options: object
) -> float:
    return score_of_answers(answers_under(classifier, split, *how, **options), split.labels)


def test_accuracy_counts_each_image_once_in_batches():
    values = np.arange(250, dtype=np.uint8)  # three batches, the last of which is not full
    images = np.broadcast_to(values[:, None, None, None], (250, 4, 4, 1)).copy()
    split = Split(images, (values >= 128).astype(np.int64), values.astype(str))
    seen: list[int] = []
    assert accuracy_under(ByBrightness(), split, on_batch=seen.append) == 1
    assert sum(seen) == 250
    # 0.2 * 255 = 51: the values from 77 to 127 now look bright.
    assert accuracy_under(ByBrightness(), split, "brightness", 4) == (250 - 51) / 250
    wrong = Split(images, 1 - split.labels, split.ids)
    assert accuracy_under(ByBrightness(), wrong) == 0


def test_each_batch_has_the_noise_of_its_own_images():
    class Keeping(ByBrightness):
        batches: ClassVar[list[np.ndarray]] = []

        def predict_on_batch(self, images: np.ndarray, /) -> np.ndarray:
            self.batches.append(images)
            return super().predict_on_batch(images)

    grey = np.full((250, 4, 4, 3), 128, np.uint8)
    split = Split(grey, np.zeros(250, np.int64), np.arange(250).astype(str))
    accuracy_under(Keeping(), split, "gaussian-noise", 2)
    all_at_once = corrupt(grey, "gaussian-noise", 2)
    np.testing.assert_array_equal(np.concatenate(Keeping.batches), all_at_once)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    side, peaks = 96, []
    file = tmp_path / "images.npy"
    np.save(file, np.zeros((600, side, side, 3), np.uint8))
    for n_images in (200, 600):
        images = ImageView(np.load(file, mmap_mode="r"), np.arange(n_images))
        split = Split(images, np.zeros(n_images, np.int64), np.arange(n_images).astype(str))
        tracemalloc.start()
        assert accuracy_under(ByBrightness(), split, "impulse-noise", 1) > 0.9
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    # A batch before and after, and one image as floats.
    assert peaks[1] < 3 * 100 * side**2 * 3


def judged(values: np.ndarray, labels: np.ndarray):
    images = np.broadcast_to(values[:, None, None, None], (len(values), 4, 4, 1)).copy()
    split = Split(images, labels, np.arange(len(values)).astype(str))
    names = ["brightness", "contrast"]
    return accuracy_under_all(ByBrightness(), split, "val", names, SEVERITIES, Progress())


@pytest.mark.parametrize("several", [False, True])
def test_no_corruption_is_said_to_hurt_where_none_is_shown_to(several):
    def labels_of(bright: np.ndarray) -> np.ndarray:
        return (
            np.stack([~bright, bright], 1).astype(np.uint8) if several else bright.astype(np.int64)
        )

    extreme = np.where(np.arange(200) % 2, 255, 0).astype(np.uint8)
    found = judged(extreme, labels_of(extreme >= 128))
    measure = "mAP" if several else "Accuracy"
    assert found.harmful == ()
    assert found.conclusion == (
        f"{measure} 100.0% without corruption, 100.0% on average with it; none of them is shown to "
        "hurt."
    )
    # One image of 200 that looks bright from a severity on: less than chance explains.
    one = extreme.copy()
    one[0] = 120
    found = judged(one, labels_of(one >= 128))
    assert found.accuracy["brightness"][-1] < found.clean == 1
    assert found.harmful == ()
    # A half of the dark ones: more.
    many = extreme.copy()
    many[0::4] = 120
    found = judged(many, labels_of(many >= 128))
    assert found.harmful == ("brightness",)
    assert "; brightness hurts most (" in found.conclusion
    assert found.content["harmful"] == ("brightness",)


def test_a_run_is_judged_on_them_and_the_test_images_stay_sealed(digits_run, tmp_path):
    shutil.copytree(digits_run, tmp_path / "run")
    run = Run(tmp_path / "run")
    options = {"corruptions": ["contrast", "jpeg"], "severities": [1, 5], "progress": Progress()}
    found = convscope.robustness(run, n_images=200, **options)
    assert found.n_images == 200
    assert found.accuracy["contrast"][1] < found.clean
    assert list(found.accuracy) == ["contrast", "jpeg"]
    assert "contrast hurts most" in found.conclusion
    assert json.loads(run.robustness_file.read_text())["clean"] == found.clean
    assert run.robustness_picture.exists()
    assert len(run.state["test_openings"]) == 1
    convscope.robustness(run, split="test", n_images=50, **options)
    assert run.state["test_openings"][-1]["by"] == "robustness"
    with pytest.raises(UnknownNameError, match="unknown corruption 'jpg'; did you mean 'jpeg'"):
        convscope.robustness(run, corruptions=["jpg"], progress=Progress())
    with pytest.raises(ConfigError, match="severity must be .*, not 6"):
        convscope.robustness(run, severities=[6], progress=Progress())
    with pytest.raises(ConfigError, match="n_images must be at least 1, not 0"):
        convscope.robustness(run, n_images=0, progress=Progress())
