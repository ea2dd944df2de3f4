"""The picture of a ladder, and the sentence and the table that go with it."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.errors import RunError, StorageError
from convscope.evaluation.grouping import n_effective
from convscope.report.figures import FAINT, TRAIN_COLOUR, VAL_COLOUR
from convscope.run import Run
from convscope.studies.ladder.page import draw_ladder, duration
from convscope.studies.ladder.rungs import COLUMNS, Ladder, Rung, chance, conclude, write_table

CAUSES = (
    *("the start", "own scaling", "64 px instead of 32", "160 px instead of 32"),
    *("standardised features", "a better head", "mirrored views", "fine-tuning the last stage"),
)
KINDS = ("start", "scaling", "size", "size", "standardise", "head", "tune", "tune")
SIZES = (32, 32, 64, *[160] * 5)


def rungs(*accuracies: float | None, tested: bool = True) -> list[Rung]:
    """Rungs with these validation accuracies; None is one that failed."""
    made, below = [], None
    for number, accuracy in enumerate(accuracies, 1):
        kind, cause, size = (each[(number - 1) % len(each)] for each in (KINDS, CAUSES, SIZES))
        rung = Rung(
            number, cause, f"change of {cause}", cause, size, f"rungs/{number:02}", kind=kind
        )
        if accuracy is None:
            made.append(Rung(**{**vars(rung), "failure": "the loss is not finite"}))
            continue
        result = {
            "val_accuracy": accuracy,
            "gain": None if below is None else accuracy - below,
            "test_accuracy": accuracy - 0.01 if tested else None,
            "feature_seconds": 12.5,
            "train_seconds": 3.0,
            "multiply_adds": 1_000,
        }
        made.append(Rung(**{**vars(rung), **result}))
        below = accuracy
    return made


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def share_of(image: np.ndarray, colour: str) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(image.astype(int) - wanted).max(axis=2) < 8).mean())


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        (
            (0.35, 0.53, 0.70, 0.86, 0.87, 0.88, 0.89, 0.92),
            "With this seed, own scaling and 160 px instead of 32 gave 51 of the 57 points from "
            "35.0% to 92.0%.",
        ),
        # One that is large enough is named alone, the sizes together.
        (
            (0.30, 0.31, 0.60, 0.80),
            "With this seed, 160 px instead of 32 gave 49 of the 50 points from 30.0% to 80.0%.",
        ),
        ((0.2, 0.8), "With this seed, own scaling gave all 60 points from 20.0% to 80.0%."),
        ((0.80, 0.86), "With this seed, own scaling gave all 6.0 points from 80.0% to 86.0%."),
        # A failed rung's change is part of the next one's.
        (
            (0.2, None, 0.8),
            "With this seed, own scaling with 64 px instead of 32 gave all 60 points from 20.0% to "
            "80.0%.",
        ),
        # Sizes are one cause only where nothing else is in it.
        (
            (0.35, None, 0.65, 0.70),
            "With this seed, own scaling with 64 px instead of 32 gave 30 of the 35 points from "
            "35.0% to 70.0%.",
        ),
        (
            (0.35, None, 0.50, 0.70),
            "With this seed, own scaling with 64 px instead of 32 and 160 px instead of 64 gave "
            "all 35 points from 35.0% to 70.0%.",
        ),
        (
            (0.35, None, None, 0.70),
            "With this seed, own scaling with 160 px instead of 32 gave all 35 points from 35.0% "
            "to 70.0%.",
        ),
        (
            (0.35, 0.35, 0.40, None, 0.70),
            "With this seed, 160 px instead of 64 with standardised features gave 30 of the 35 "
            "points from 35.0% to 70.0%.",
        ),
        (
            (0.35, 0.35, None, 0.70),
            "With this seed, 160 px instead of 32 gave all 35 points from 35.0% to 70.0%.",
        ),
        (
            (0.2, 0.8, 0.79),
            "With this seed, own scaling gave all 60 points from 20.0% to 80.0%. "
            "The rungs after 'own scaling' gained nothing.",
        ),
        (
            (0.2, 0.8, 0.5),
            "With this seed, own scaling gave all 60 points from 20.0% to 80.0%. "
            "The rungs after 'own scaling' lost 30.",
        ),
        (
            (0.80, 0.805),
            "No change shows an effect on 10,000 validation images: "
            "80.0% at 'the start', 80.5% at best.",
        ),
        ((0.5,), "Only 'the start' has been trained: 50.0% validation accuracy."),
        ((None, None), "No rung has been trained."),
    ],
)
def test_the_conclusion_names_what_gained_most(accuracies, said):
    assert conclude(rungs(*accuracies), 10_000) == said


def test_a_rung_of_an_older_ladder_has_the_kind_of_its_name():
    names = ("as the tutorial", "own scaling", "64 px", "standardised features", "better head")
    kinds = [Rung(1, name, "", "", 64, "").kind for name in (*names, "last 2 stages fine-tuned")]
    assert kinds == ["start", "scaling", "size", "standardise", "head", "tune"]


def test_the_conclusion_does_not_look_at_test_images():
    sealed, opened = rungs(0.2, 0.6, 0.9, tested=False), rungs(0.2, 0.6, 0.9)
    assert conclude(sealed, 1_000) == conclude(opened, 1_000)


def test_chance_is_what_two_equal_models_differ_by():
    rng = np.random.default_rng(83)
    a, b = (rng.binomial(500, 0.8, 20_000) / 500 for _ in range(2))
    beyond = np.mean(np.abs(a - b) > chance(0.8, 0.8, 500))
    assert 0.035 < beyond < 0.06


@pytest.mark.parametrize("n_images", [10, 20, 50, 200])
def test_chance_is_not_0_where_all_images_are_correct(n_images):
    rng = np.random.default_rng(83)
    best = chance(1, 1, n_images)
    # Above the smallest difference that there is, and less than what 95 % confidence leaves to a
    # perfect result; where all are wrong it is the same.
    assert 1 / n_images < best < 1 - 0.025 ** (1 / n_images)
    assert chance(0, 0, n_images) == pytest.approx(best)
    for truth in (0.98, 0.99):
        a, b = (rng.binomial(n_images, truth, 4_000) / n_images for _ in range(2))
        beyond = [abs(x - y) > chance(x, y, n_images) for x, y in zip(a, b, strict=True)]
        assert np.mean(beyond) < 0.06


def test_one_image_shows_no_difference():
    assert chance(0, 1, 1) > 1


def test_the_caution_near_100_percent_is_not_about_0_points():
    climb = Ladder(Path("x"), "d", 20, tuple(rungs(0.9, 1.0)))
    assert climb.caution.endswith(
        " With 20 validation images, differences of up to 13.5 points near 100% can be due to "
        "chance."
    )


def test_of_equally_good_networks_none_is_said_to_have_gained():
    rng = np.random.default_rng(84)
    # As if each rung had images of its own: on the same ones they differ less.
    said = [conclude(rungs(*rng.binomial(500, 0.8, 8) / 500), 500) for _ in range(2000)]
    alarms = np.mean([" gave " in each for each in said])
    assert 0.01 < alarms <= 0.06
    assert all("With this seed" in each for each in said if " gave " in each)


def test_of_equally_good_networks_on_bursts_none_is_said_to_have_gained():
    chance = np.random.default_rng(84)
    bursts = np.repeat([f"{number}" for number in range(15)], 20)

    def study() -> str:
        # Each network has its own luck in each burst.
        rates = np.repeat(chance.beta(8, 2, (4, 15)), 20, axis=1)
        right = chance.random(rates.shape) < rates
        climbed = [
            dataclasses.replace(rung, n_effective=n_effective(row, bursts))
            for rung, row in zip(rungs(*right.mean(axis=1)), right, strict=True)
        ]
        return conclude(climbed, 300)

    assert np.mean([" gave " in study() for _ in range(200)]) <= 0.06


def test_the_caution_says_that_images_are_in_groups():
    few = tuple(dataclasses.replace(rung, n_effective=10.0) for rung in rungs(0.5, 0.8))
    caution = Ladder(Path("x"), "d", 200, few).caution
    alone = Ladder(Path("x"), "d", 200, tuple(rungs(0.5, 0.8))).caution
    assert "With 200 validation images, in groups, differences of up to 41.6 points" in caution
    assert "With 200 validation images, differences of up to 7.9 points" in alone


def test_the_table_has_a_row_for_each_rung(tmp_path):
    path = tmp_path / "ladder.csv"
    write_table(rungs(0.2, None, 0.5), path)
    with path.open(newline="") as file:
        first, failed, last = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert (first["rung"], first["gain"], first["seconds"]) == ("1", "", "15.5")
    assert (failed["val_accuracy"], failed["failure"]) == ("", "the loss is not finite")
    assert float(last["gain"]) == pytest.approx(0.3)


@pytest.mark.parametrize("n_rungs", [1, 3, 10])
def test_the_picture_grows_with_its_rungs_and_keeps_its_width(tmp_path, n_rungs):
    path = tmp_path / "ladder.png"
    draw_ladder(rungs(*np.linspace(0.3, 0.9, n_rungs)), 10_000, path, about="a $model on data")
    image = pixels(path)
    assert image.shape[1] == 1080
    # A row of half an inch for each rung.
    assert 60 * n_rungs < image.shape[0] < 60 * n_rungs + 260
    # Each rung's dot lies in its row.
    rows = image[-58 - 60 * n_rungs : -58]
    for row in range(n_rungs):
        assert share_of(rows[60 * row : 60 * row + 60], TRAIN_COLOUR) > 0.0005
    # Nothing runs out of the picture.
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert border.min() == 255


def test_losses_gains_and_chance_differ_in_colour(tmp_path):
    def draw(*accuracies: float | None) -> np.ndarray:
        draw_ladder(rungs(*accuracies), 1_000, tmp_path / "ladder.png", about="")
        return pixels(tmp_path / "ladder.png")

    gain, chance_alone, loss = draw(0.5, 0.7), draw(0.5, 0.51), draw(0.7, 0.5)
    assert share_of(loss, VAL_COLOUR) > 0
    assert share_of(gain, VAL_COLOUR) == share_of(chance_alone, VAL_COLOUR) == 0
    assert share_of(gain, TRAIN_COLOUR) > share_of(chance_alone, TRAIN_COLOUR)
    assert share_of(chance_alone, FAINT) > share_of(gain, FAINT)


def test_failed_and_waiting_rungs_are_told(tmp_path):
    path = tmp_path / "ladder.png"
    draw_ladder(rungs(0.5, None, 0.7), 1_000, path, about="")
    assert share_of(pixels(path), VAL_COLOUR) > 0
    waiting = [*rungs(0.5), Rung(2, "later", "what comes", "later", 64, "rungs/02")]
    draw_ladder(waiting, 1_000, path, about="")
    assert share_of(pixels(path), VAL_COLOUR) == 0
    draw_ladder(rungs(None), 1_000, path, about="")
    assert pixels(path).shape[1] == 1080


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError):
        draw_ladder(rungs(0.5), 10, tmp_path / "file" / "ladder.png", about="")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (5_700, "1.6 h")]
)
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_a_ladder_is_read_as_it_was_written(tmp_path):
    climbed = Ladder(tmp_path, "tiny on digits", 288, tuple(rungs(0.3, 0.7, 0.8)))
    state = {"format": 1, "about": climbed.about, "n_val": climbed.n_val}
    Run.write_json(
        climbed.state_file, {**state, "rungs": [dataclasses.asdict(r) for r in climbed.rungs]}
    )
    assert Ladder.read(tmp_path) == climbed
    assert climbed.is_finished
    waiting = dataclasses.replace(climbed.rungs[-1], val_accuracy=None, test_accuracy=None)
    assert not dataclasses.replace(climbed, rungs=(*climbed.rungs[:2], waiting)).is_finished
    for text, fault in (
        ('{"format": 1}', "is damaged"),
        ('{"format": 2}', "by another version of convscope"),
        ("[", "is damaged"),
    ):
        climbed.state_file.write_text(text)
        with pytest.raises(RunError, match=fault):
            Ladder.read(tmp_path)
    with pytest.raises(RunError, match="holds no ladder"):
        Ladder.read(tmp_path / "elsewhere")
