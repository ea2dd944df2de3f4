import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from convscope.errors import StorageError
from convscope.evaluation.selective import Selection
from convscope.report import figures
from convscope.report.curves import curves_figure
from convscope.report.figures import (
    TRAIN_COLOUR,
    VAL_COLOUR,
    confusion_figure,
    coverage_figure,
    samples_figure,
    save_figure,
)
from convscope.run import SmallerImages


def draw_confusion(matrix, names, path, *, title):
    save_figure(confusion_figure(matrix, names), path, title=title)


def draw_samples(images, names, path, **how):
    save_figure(samples_figure(images, names, **how), path)


def draw_curves(rows, path, *, title):
    save_figure(curves_figure(rows), path, title=title)


def history(n_epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "loss": 2.0 / epoch,
            "accuracy": 1 - 1 / (epoch + 1),
            "val_loss": 2.2 / epoch,
            "val_accuracy": 1 - 1.2 / (epoch + 1),
        }
        for epoch in range(1, n_epochs + 1)
    ]


def pixels(path: Path) -> np.ndarray:
    """Decode a whole PNG; shape (height, width, 3)."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        picture.load()
        return np.asarray(picture.convert("RGB"))


def ink(image: np.ndarray) -> float:
    """The share of pixels that are not white."""
    return float((image.min(axis=2) < 250).mean())


def share_of(image: np.ndarray, colour: str) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(image.astype(int) - wanted).max(axis=2) < 8).mean())


@pytest.mark.parametrize("accuracy", [1.0, 0.99])
def test_no_tick_is_above_100_percent(accuracy):
    curve = [Selection(0.2, 1.0, accuracy), Selection(0.9, 0.5, 1.0)]
    figure = coverage_figure(curve)
    figure.canvas.draw()
    (axes,) = figure.axes
    for axis in (axes.xaxis, axes.yaxis):
        ticks = axis.get_majorticklocs()
        assert len(ticks) > 1
        assert ticks[-1] == pytest.approx(1)
    # The line itself is not cut off.
    assert axes.get_ylim()[1] > 1


@pytest.mark.parametrize("n_epochs", [1, 2, 200])
def test_curves_show_both_parts(tmp_path, n_epochs):
    path = tmp_path / "curves.png"
    draw_curves(history(n_epochs), path, title="a run with $x_1$ in its name")
    image = pixels(path)
    assert image.shape == (480, 1200, 3)
    assert 0.005 < ink(image) < 0.5
    for half in (image[:, :600], image[:, 600:]):
        assert share_of(half, TRAIN_COLOUR) > 1e-4
        assert share_of(half, VAL_COLOUR) > 1e-4
    assert os.listdir(tmp_path) == ["curves.png"]


def drawn(figure) -> list[list[str]]:
    """The labels of the ticks of each axis that are seen, x and y of each pane."""
    figure.canvas.draw()
    seen = []
    for axes in figure.axes:
        for axis in filter(lambda axis: axis.get_visible(), (axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            seen.append([label.get_text() for place, label in labels if low <= place <= high])
    return seen


@pytest.mark.parametrize("n_epochs", [1, 2, 3, 5, 200])
@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.002, 0.4])
def test_ticks_of_curves_are_whole_epochs_and_no_two_have_one_label(n_epochs, spread):
    rows = [
        {"epoch": epoch + 1, "loss": 0.5, "val_loss": 0.5 + spread * epoch / n_epochs}
        | {"accuracy": 0.55, "val_accuracy": 0.55 + spread * epoch / n_epochs}
        for epoch in range(n_epochs)
    ]
    for stacked in (False, True):
        labels = drawn(curves_figure(rows, stacked=stacked))
        assert all(len(set(of_axis)) == len(of_axis) for of_axis in labels)
        if n_epochs == 1:
            assert labels == [["train", "val"]] * 2
        else:
            assert all(label.isdigit() for of_x in labels[::2] for label in of_x)
            assert all(label.endswith("%") for label in labels[3])


def test_curves_differ_with_their_numbers(tmp_path):
    rows = history(5)
    draw_curves(rows, tmp_path / "a.png", title="a")
    draw_curves(rows, tmp_path / "b.png", title="a")
    rows[2]["val_accuracy"] = 0.1
    draw_curves(rows, tmp_path / "c.png", title="a")
    a, b, c = (pixels(tmp_path / f"{name}.png") for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize("n_classes", [1, 2, 10, 20, 40, 100])
def test_a_confusion_matrix_of_any_number_of_classes(tmp_path, n_classes):
    rng = np.random.default_rng(0)
    matrix = np.diag(rng.integers(50, 100, n_classes)) + rng.integers(0, 2, (n_classes, n_classes))
    path = tmp_path / "confusion_matrix.png"
    names = [f"class {index}" for index in range(n_classes)]
    draw_confusion(matrix, names, path, title="a run: 90.0 % right")
    image = pixels(path)
    assert 400 < image.shape[0] < 3000
    assert 400 < image.shape[1] < 3000
    assert 0.02 < ink(image) < 0.999
    # Blue cells along the diagonal.
    blue = (image[..., 2].astype(int) - image[..., 0]) > 60
    assert blue.mean() > 0.002


def test_a_class_without_images_is_an_empty_row(tmp_path):
    matrix = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    path = tmp_path / "confusion_matrix.png"
    draw_confusion(matrix, ["a", "b", "none of it"], path, title="t")
    assert ink(pixels(path)) > 0.02


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_images", [1, 5, 7, 20])
def test_samples_show_the_pixels_themselves(tmp_path, channels, n_images):
    # Two flat values, neither of which occurs in text on white: contrast must not be stretched.
    values = np.array([60, 180])[np.arange(n_images) % 2].astype(np.uint8)
    images = np.tile(values[:, None, None, None], (1, 8, 8, channels))
    path = tmp_path / "samples.png"
    draw_samples(images, [f"name {index}" for index in range(n_images)], path)
    image = pixels(path)
    rows = -(-n_images // 5)
    assert image.shape == (round(1.95 * rows * 120), round(1.7 * 5 * 120), 3)
    for value in set(values.tolist()):
        # Within what matplotlib's table of greys rounds away.
        flat = (np.abs(image.astype(int) - value) <= 2).all(axis=2).mean()
        count = (values == value).sum()
        assert flat > 0.5 * count / (rows * 5), value


@pytest.mark.parametrize("n_letters", [10, 30, 60])
def test_names_below_images_do_not_overlap(n_letters):
    names = [f"{'abcdefghij' * 6}"[:n_letters] + f"?\n{'owl in the dark ' * 4} 97%"] * 8
    figure = samples_figure(np.zeros((8, 4, 4, 3), np.uint8), names, columns=4)
    figure.draw_without_rendering()
    boxes = [each.get_window_extent() for each in figure.axes[0].texts]
    for left, right in itertools.pairwise(boxes[:4]):
        assert left.x1 < right.x0
    text = figure.axes[0].texts[0]
    assert text.get_text().endswith(" 97%")
    assert text.get_fontsize() >= 6


def test_the_name_at_the_end_of_a_line_is_not_on_the_axis():
    rows = [
        {"epoch": k, "loss": 1 / k, "val_loss": 1.5 / k, "accuracy": 0.5, "val_accuracy": 0.5}
        for k in range(1, 9)
    ]
    figure = curves_figure(rows, stacked=True)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    axis = axes.get_window_extent().y0
    assert all(each.get_window_extent().y0 > axis for each in axes.texts)


@pytest.mark.parametrize("multi_label", [False, True])
def test_epochs_of_smaller_images_are_shaded(multi_label):
    smaller = SmallerImages(2, "24x18 pixels")
    for stacked in (False, True):
        figure = curves_figure(
            history(5), stacked=stacked, multi_label=multi_label, smaller=smaller
        )
        assert [
            (patch.get_x(), patch.get_x() + patch.get_width())
            for axes in figure.axes
            for patch in axes.patches
        ] == [(0.5, 2.5)] * 2
        titles = [axes.get_title(loc="right") for axes in figure.axes]
        assert "shaded: at 24x18 pixels" in titles
        assert sum("best val" in title or "lowest val" in title for title in titles) == 1
    assert not any(axes.patches for axes in curves_figure(history(5)).axes)


@pytest.mark.parametrize(
    ("state", "smaller"),
    [
        ({"smaller_images": {"size": [24, 18], "epochs": 2}}, SmallerImages(2, "24x18 pixels")),
        ({}, None),
        ({"smaller_images": None}, None),
        ({"smaller_images": {"size": [24], "epochs": 2}}, None),
        ({"smaller_images": {"size": [24, "<b>"], "epochs": 2}}, None),
        ({"smaller_images": {"size": [24, 18]}}, None),
    ],
)
def test_what_a_run_says_of_smaller_images_is_read_or_left(state, smaller):
    assert SmallerImages.of(state) == smaller


def test_colours_are_not_mixed_up(tmp_path):
    images = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    for channel in range(3):
        images[channel, ..., channel] = 255
    draw_samples(images, ["red", "green", "blue"], tmp_path / "samples.png", columns=3)
    image = pixels(tmp_path / "samples.png")
    for index, colour in enumerate(("#ff0000", "#00ff00", "#0000ff")):
        third = image.shape[1] // 3
        assert share_of(image[:, index * third : (index + 1) * third], colour) > 0.3


def test_names_may_hold_what_matplotlib_takes_for_mathematics(tmp_path):
    images = np.full((2, 4, 4, 3), 90, dtype=np.uint8)
    names = ["5$ off $", "$\\frac{"]
    draw_samples(images, names, tmp_path / "samples.png")
    draw_confusion(np.eye(2, dtype=int), names, tmp_path / "c.png", title="$\\frac{")
    draw_curves(history(2), tmp_path / "curves.png", title="$\\frac{ $")
    assert len(os.listdir(tmp_path)) == 3


def test_names_in_any_script_draw_without_a_warning(tmp_path):
    names = ["고양이", "猫", "🐈"]
    draw_confusion(np.eye(3, dtype=int), names, tmp_path / "c.png", title="고양이")
    images = np.full((3, 4, 4, 3), 90, dtype=np.uint8)
    draw_samples(images, names, tmp_path / "s.png")
    assert ink(pixels(tmp_path / "s.png")) > 0.3


def test_characters_that_the_own_font_lacks_come_from_another_one(tmp_path, monkeypatch):
    images = np.full((1, 4, 4, 3), 90, dtype=np.uint8)
    # One that only another font of matplotlib's has stands for those of East Asia.
    draw_samples(images, ["\u1d84"], tmp_path / "box.png", columns=1)
    monkeypatch.setattr(figures, "FONTS", ("no such font", "STIXGeneral"))
    draw_samples(images, ["\u1d84"], tmp_path / "drawn.png", columns=1)
    box, drawn = pixels(tmp_path / "box.png"), pixels(tmp_path / "drawn.png")
    assert (box != drawn).any()


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file where a folder must be"):
        draw_curves(history(2), tmp_path / "file" / "curves.png", title="t")


def test_pyplot_is_not_imported(tmp_path):
    # Its figures are kept for good, and it looks for a screen.
    code = f"""
        import sys
        from pathlib import Path
        import numpy as np
        from convscope.report.figures import confusion_figure, samples_figure, save_figure
        folder = Path({str(tmp_path)!r})
        save_figure(confusion_figure(np.eye(3, dtype=int), list("abc")), folder / "c.png")
        save_figure(samples_figure(np.zeros((2, 4, 4, 1), np.uint8), list("ab")), folder / "s.png")
        assert "matplotlib.figure" in sys.modules
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert sorted(os.listdir(tmp_path)) == ["c.png", "s.png"]


@pytest.mark.parametrize(("n_classes", "together"), [(1_000, 1), (2_300, 3)])
def test_more_classes_than_can_be_seen_share_cells(n_classes, together):
    labels = np.arange(n_classes)
    matrix = np.zeros((n_classes, n_classes), int)
    matrix[labels, labels] = 3
    matrix[labels, (labels + n_classes // 2) % n_classes] += 1  # far from the diagonal
    figure = confusion_figure(matrix, [f"class {label}" for label in labels])
    shown = np.asarray(figure.axes[0].images[0].get_array())
    n_rows = -(-n_classes // together)
    assert shown.shape == (n_rows, n_rows)
    np.testing.assert_allclose(shown.sum(axis=1), 1)
    np.testing.assert_allclose(np.diag(shown), 0.75)
    said = f" ({together} classes to a row)" if together > 1 else ""
    assert figure.axes[0].get_ylabel() == f"true{said}"


def test_a_title_that_is_not_utf8_is_spelled_out(tmp_path):
    figure = samples_figure(np.zeros((1, 4, 4, 3), np.uint8), ["caf\udce9"])
    save_figure(figure, tmp_path / "a.png", title="like caf\udce9.png")
    texts = {each.get_text() for each in figure.findobj(Text)}
    assert {r"caf\udce9", r"like caf\udce9.png"} <= {" ".join(text.split()) for text in texts}
    assert (tmp_path / "a.png").exists()
