"""Answers that name any number of classes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from convscope.classifier.bulk.answers import AnswersFile, csv_row, json_object
from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec, Views
from convscope.classifier.views import MeanOverViews
from convscope.types import ImagePrediction, UnreadableImage

NAMES = ("cat", "dog", "owl")


class Fixed:
    """A network that says the same of every image."""

    def __init__(self, *probs: float) -> None:
        self.probs = np.array([probs], np.float32)
        self.n_images = 0

    def predict_on_batch(self, images):
        self.n_images += len(images)
        return self.probs.repeat(len(images), axis=0)


def spec(**settings) -> ClassifierSpec:
    return ClassifierSpec(NAMES, 4, 4, 3, multi_label=True, thresholds=(0.5, 0.3, 0.9), **settings)


def test_all_classes_that_reach_their_thresholds_are_named_the_most_probable_first():
    image = np.zeros((4, 4, 3), np.uint8)
    said = Classifier(Fixed(0.4, 0.3, 0.95), spec()).predict(image)
    assert said.class_names == ("owl", "dog")
    assert said.answer == "owl + dog"
    assert said.class_name == "owl"
    assert said.probs == pytest.approx({"cat": 0.4, "dog": 0.3, "owl": 0.95})
    none = Classifier(Fixed(0.4, 0.2, 0.8), spec()).predict(image)
    assert none.class_names == ()
    assert none.answer == "no class"
    one = ImagePrediction(None, {"cat": 0.4, "dog": 0.6})
    assert one.class_names == ("dog",)


def test_a_rejected_image_has_no_class():
    said = ImagePrediction(None, {"cat": 0.9}, rejected=True, thresholds={"cat": 0.5})
    assert said.class_names == ()
    assert said.answer == "none of these"


def test_the_temperature_keeps_classes_apart():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    probs = Classifier(Fixed(0.9, 0.9, 0.5), spec(temperature=2.0)).predict_on_batch(image)
    np.testing.assert_allclose(probs, [[0.75, 0.75, 0.5]], rtol=1e-5)


def test_shifted_views_are_used_where_a_class_is_in_doubt():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    for probs, n_images in (((0.95, 0.02, 0.99), 1), ((0.95, 0.45, 0.99), 3)):
        network = Fixed(*probs)
        averaged = MeanOverViews(network, Views(shift=0.25), multi_label=True)
        np.testing.assert_allclose(averaged.predict_on_batch(image), [probs])
        assert network.n_images == n_images


def test_a_spec_is_read_as_it_was_written(tmp_path: Path):
    spec().write(tmp_path / "spec.json")
    assert ClassifierSpec.read(tmp_path / "spec.json") == spec()
    for wrong in ((0.5,), (0.5, 0.5, 1.5), ("a", "b", "c")):
        with pytest.raises(ValueError, match="thresholds"):
            ClassifierSpec(NAMES, 4, 4, 3, multi_label=True, thresholds=wrong)
    with pytest.raises(ValueError, match="thresholds"):
        ClassifierSpec(NAMES, 4, 4, 3, thresholds=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_files_of_answers_hold_lists(tmp_path: Path, kind: str):
    thresholds = dict.fromkeys(NAMES, 0.5)
    results = [
        ImagePrediction(Path("a.png"), {"cat": 0.5, "dog": 0.75, "owl": 0}, thresholds=thresholds),
        ImagePrediction(Path("b.png"), dict.fromkeys(NAMES, 0.25), thresholds=thresholds),
        UnreadableImage(Path("c.png"), "c.png is damaged"),
    ]
    path = tmp_path / f"said.{kind}"
    file = AnswersFile(path, NAMES, {}, multi_label=True)
    assert list(file.write(iter(results))) == results
    if kind == "csv":
        rows = list(csv.reader(path.read_text().splitlines()))
        assert rows == [
            ["image", "classes", *NAMES, "error"],
            ["a.png", "dog|cat", "0.5", "0.75", "0", ""],
            ["b.png", "", "0.25", "0.25", "0.25", ""],
            ["c.png", "", "", "", "", "c.png is damaged"],
        ]
        return
    if kind == "parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
        assert rows[2]["error"] == "c.png is damaged"
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row.get("classes") for row in rows] == [["dog", "cat"], [], None]
    assert rows[0]["probs"] == {"cat": 0.5, "dog": 0.75, "owl": 0}


def test_a_cell_of_several_names_can_be_taken_apart():
    names = {"a|b": 1.0, "c": 1.0}
    said = ImagePrediction(Path("x"), names, thresholds=dict.fromkeys(names, 0.5))
    assert json.loads(csv_row(said)[1]) == ["a|b", "c"]
    assert json_object(said)["classes"] == ["a|b", "c"]
