"""The file that says what using a model takes: whole, checked, and read without a framework."""

import dataclasses
import json

import pytest

from convscope.classifier.shares import Shares
from convscope.classifier.spec import FORMAT, ClassifierSpec, Views
from convscope.errors import RunError

SPEC = ClassifierSpec(
    ("고양이", "dog, wet"),
    24,
    32,
    3,
    temperature=1.25,
    views=Views(mirror=True, shift=0.1),
    reject_below=0.4,
    val_shares=Shares(8, (0.25, 0.75), (0.5, 0.5) + (0.0,) * 9),
    white=65535,
    run_id="mine",
    licence="CC0",
    weights_sha256="ab" * 32,
)


def test_shares_of_classes_need_not_sum_to_1_where_an_image_may_have_several():
    shares = Shares(8, (0.75, 0.75), SPEC.val_shares.confidences)
    several = dataclasses.replace(SPEC, multi_label=True, thresholds=(0.5, 0.4), val_shares=shares)
    assert ClassifierSpec.from_json(several.to_json(), "it") == several
    with pytest.raises(ValueError, match="val_shares"):
        dataclasses.replace(SPEC, val_shares=shares)


def test_turned_views_alone_make_a_file_that_older_versions_refuse():
    content = json.loads(SPEC.to_json())
    assert content["format"] == 2
    assert content["views"] == {"mirror": True, "shift": 0.1}
    square = dataclasses.replace(SPEC, width=24, views=Views(mirror=True, turn=True))
    content = json.loads(square.to_json())
    assert content["format"] == FORMAT == 3
    assert ClassifierSpec.from_json(square.to_json(), "it") == square


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "last.json"
    SPEC.write(path)
    assert ClassifierSpec.read(path) == SPEC
    assert [file.name for file in tmp_path.iterdir()] == ["last.json"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("class_names", ["one"]), ("class_names", [1, 2]), ("class_names", 7)),
        *(("height", 0), ("height", 1e9), ("width", "32"), ("channels", 4), ("channels", True)),
        *(("fit", "stretch"), ("temperature", 0), ("temperature", float("nan"))),
        *(("temperature", True), ("views", {"mirror": 1, "shift": 0}), ("views", [])),
        # Its images are not square.
        *(("views", {"turn": True}), ("views", {"turn": 0})),
        *(("val_shares", []), ("val_shares", {"n_images": 9})),
        ("val_shares", {"n_images": 9, "classes": [2, -1], "confidences": [1] + [0] * 10}),
        ("val_shares", {"n_images": 9, "classes": [1], "confidences": [1] + [0] * 10}),
        *(("views", {"mirror": True, "shift": 1}), ("reject_below", 101), ("run_id", None)),
        *(
            ("white", 2),
            ("white", True),
            ("white", "1"),
            ("licence", 3),
            ("format", None),
        ),
    ],
)
def test_a_damaged_file_is_refused_in_a_line(tmp_path, key, value):
    path = tmp_path / "last.json"
    SPEC.write(path)
    content = json.loads(path.read_text())
    content[key] = value
    if value is None and key == "format":
        del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"last\.json is damaged") as caught:
        ClassifierSpec.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "null", "[]", "[" * 100_000, "\x00"])
def test_what_is_no_such_file_is_refused_in_a_line(tmp_path, text):
    path = tmp_path / "last.json"
    path.write_text(text)
    with pytest.raises(RunError, match="is damaged"):
        ClassifierSpec.read(path)
    with pytest.raises(RunError, match="is missing"):
        ClassifierSpec.read(tmp_path / "other.json")


def test_a_file_with_more_in_it_is_a_newer_one():
    content = {**json.loads(SPEC.to_json()), "unknown": 1}
    with pytest.raises(RunError, match=r"^it was written by a newer convscope; upgrade convscope$"):
        ClassifierSpec.from_json(json.dumps(content), "it")


def test_shares_in_other_intervals_are_left_out():
    content = json.loads(SPEC.to_json())
    content["val_shares"]["confidences"] = [0.5, 0.5]
    found = ClassifierSpec.from_json(json.dumps(content), "it")
    assert found == dataclasses.replace(SPEC, val_shares=Shares())


def test_a_newer_file_is_refused_by_name(tmp_path):
    path = tmp_path / "last.json"
    SPEC.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    with pytest.raises(RunError, match="newer convscope"):
        ClassifierSpec.read(path)


def test_impossible_specs_cannot_be_made():
    with pytest.raises(ValueError, match="temperature"):
        dataclasses.replace(SPEC, temperature=100.0)


def test_a_file_from_before_white_was_recorded_is_read(tmp_path):
    path = tmp_path / "last.json"
    SPEC.write(path)
    content = json.loads(path.read_text())
    del content["white"]
    path.write_text(json.dumps({**content, "format": 1}))
    assert ClassifierSpec.read(path) == dataclasses.replace(SPEC, white=None)
