"""A trained model leaves convscope, and answers elsewhere as it did here."""

import importlib
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier.exported import Classifier
from convscope.classifier.keras_model import open_classifier
from convscope.classifier.rejection import energy, least_familiarity
from convscope.classifier.shares import shares_of
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import ConfigError, FailureError, IntegrityError, RunError, ShapeError
from convscope.export import FORMATS, parity
from convscope.progress import Progress
from convscope.run import Run


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    """Skip all on other backends: a graph leaves from TensorFlow."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("exports are made with TensorFlow")


@pytest.fixture(scope="module", autouse=True)
def short_timing():
    """Time each export for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "_SECONDS", 0.02)
        yield


@pytest.fixture
def exported(digits_export):
    return digits_export


def files(folder, n=3):
    val = convscope.load("digits", progress=Progress()).val
    paths = [folder / f"{index}.png" for index in range(n)]
    for image, path in zip(val.images, paths, strict=False):
        Image.fromarray(image.squeeze()).resize((19, 23)).save(path)
    return paths


def test_an_exported_file_answers_as_the_run(digits_run, exported, tmp_path):
    path, found = exported
    assert found.n_images == 288
    assert found.largest_difference < 1e-5
    assert found.agreement == found.file_agreement == 1
    assert found.accuracy[0] == found.accuracy[1]
    assert found.size_mb == pytest.approx(path.stat().st_size / 1e6)
    images = files(tmp_path)
    wanted = list(convscope.predict(digits_run, images, progress=Progress()))
    for said, expected in zip(
        convscope.predict(path, images, progress=Progress()), wanted, strict=True
    ):
        assert said.path == expected.path
        assert said.probs == pytest.approx(expected.probs, abs=1e-5)
    capitals = shutil.copy(path, tmp_path / "DIGITS.ONNX")
    assert next(convscope.predict(capitals, images[0], progress=Progress())).path == images[0]
    beside = json.loads(path.with_name("digits.onnx.json").read_text())
    assert beside["class_names"] == [str(digit) for digit in range(10)]
    # Stored when the run was evaluated, for a server to compare its answers with.
    assert beside["val_shares"]["n_images"] == 288
    assert sum(beside["val_shares"]["classes"]) == pytest.approx(1, abs=1e-4)
    assert beside["in_graph"] == ["resizing", "views", "temperature"]


def test_every_kind_of_image_gets_one_answer(exported, tmp_path):
    classifier = Classifier(exported[0])
    (file,) = files(tmp_path, 1)
    expected = classifier.predict(file)
    with Image.open(file) as picture:
        kinds = [str(file), file.read_bytes(), picture, np.asarray(picture), picture.convert("RGB")]
        for kind in kinds:
            assert classifier.predict(kind).probs == pytest.approx(expected.probs, abs=1e-5)
        many = list(classifier.predict((kind for kind in kinds), batch_size=2))
    assert [said.class_name for said in many] == [expected.class_name] * len(kinds)
    damaged = list(classifier.predict([file, b"no image", file]))
    assert [hasattr(item, "reason") for item in damaged] == [False, True, False]


@pytest.mark.parametrize("name", [name for name in FORMATS.names() if name != "onnx"])
def test_every_format_passes_its_check_and_refuses_changed_files(
    name, digits_run, tmp_path, monkeypatch
):
    path, found = convscope.export(
        digits_run,
        format=name,
        out=tmp_path / f"lr0.01{FORMATS.get(name)().suffix}",
        progress=Progress(),
    )
    assert found.largest_difference < 1e-5
    assert found.file_agreement == 1
    usage = FORMATS.get(name)().usage(path)
    if "import" in usage and "ai_edge_litert" not in usage:  # not of TensorFlow's package
        known = {"pixels": np.full((2, 28, 28, 1), 128, np.uint8)}
        exec(usage, known)
        assert np.asarray(known["probs"]).sum(axis=1) == pytest.approx(1, abs=1e-5)
    victim = path if path.is_file() else max(path.rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        FORMATS.get(name)().open(path)
    if path.is_dir():
        monkeypatch.setattr(importlib.import_module("convscope.api.export"), "load_of_run", None)
        with pytest.raises(RunError, match="exists already"):  # before an image is read
            convscope.export(digits_run, format=name, out=path, progress=Progress())


def test_a_trained_and_an_exported_model_take_the_same_batches(digits_run, exported):
    both = (open_classifier(Run.open(digits_run)), Classifier(exported[0]))
    for images in (
        np.zeros((2, 8, 8, 1), np.float32),
        np.zeros((2, 8, 8, 1), np.int64),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((2, 0, 8, 1), np.uint8),
        [[[[0]]]],
    ):
        said = set()
        for classifier in both:
            with pytest.raises(ShapeError, match=r"a batch is an array of .* uint8; this") as error:
                classifier.predict_on_batch(images)
            said.add(str(error.value))
        assert len(said) == 1
    none = np.zeros((0, 8, 8, 1), np.uint8)
    for classifier in both:
        probs, rejected = classifier.predict_and_reject(none)
        for empty in (probs, classifier.predict_on_batch(none)):
            assert (empty.shape, empty.dtype) == ((0, 10), np.float32)
        assert (rejected.shape, rejected.dtype) == ((0,), bool)


def test_a_model_that_answers_otherwise_is_not_kept(digits_run, tmp_path, monkeypatch):
    from convscope.export import graph

    right = graph._resized_by
    monkeypatch.setattr(
        graph, "_resized_by", lambda images, *w, **how: right(images, *w, **how)[:, ::-1]
    )
    with pytest.raises(FailureError, match="does not resize"):
        convscope.export(digits_run, out=tmp_path / "x.onnx", progress=Progress())
    monkeypatch.undo()
    monkeypatch.setattr(graph, "_TINY", 0.2)
    with pytest.raises(FailureError, match="does not give the answers"):
        convscope.export(digits_run, out=tmp_path / "x.onnx", progress=Progress())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("weights", "format", "name"),
    [
        (None, "onnx", "digits.onnx"),
        ("last", "onnx", "digits.onnx"),
        ("best", "onnx", "digits-best.onnx"),
        ("best", "savedmodel", "digits-best_savedmodel"),
    ],
)
def test_weights_that_the_recipe_does_not_choose_are_in_the_name(
    digits_run, monkeypatch, weights, format, name
):
    from convscope.export import writing

    monkeypatch.setattr(writing, "write_float32", lambda *given: None)
    said = []

    class Told(Progress):
        def say(self, text):
            said.append(text)

    path, _ = convscope.export(digits_run, weights=weights, format=format, progress=Told())
    assert path == Run.open(digits_run).exports_dir / name
    told = [line for line in said if "the weights 'best' were not evaluated" in line]
    assert len(told) == (weights == "best")


def test_int8_is_kept_only_if_it_pays(digits_run, tmp_path, monkeypatch):
    from convscope.export import onnx, writing

    monkeypatch.setattr(onnx, "_FASTER", 1e9)
    out = tmp_path / "small.onnx"
    with pytest.raises(FailureError, match="times as fast as float32 on this machine"):
        convscope.export(digits_run, int8=True, out=out, progress=Progress())
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(onnx, "_FASTER", 0.0)
    monkeypatch.setattr(writing, "MOST_ACCURACY_LOST", 1.0)
    _, found = convscope.export(digits_run, int8=True, out=out, progress=Progress())
    assert (
        found.size_mb < 0.65 * open_classifier(Run.open(digits_run)).network.count_params() * 4e-6
    )
    assert 0 < found.largest_difference < 0.2
    # What it holds of its answers on validation images is of its own, not of those in float32.
    small = Classifier(out)
    probs = small.predict_on_batch(convscope.load("digits", progress=Progress()).val.images)
    assert small.spec.val_shares == shares_of(probs)
    assert small.spec.reject_below == least_familiarity(energy(probs), 0.95)
    assert ClassifierSpec.read(tmp_path / "small.onnx.json") == small.spec


def test_int8_for_phones_takes_a_quarter_and_is_no_matter_of_speed(
    digits_run, tmp_path, monkeypatch, capfd
):
    from convscope.export import litert, writing

    monkeypatch.setattr(writing, "MOST_ACCURACY_LOST", 1.0)
    out = tmp_path / "small.tflite"
    asked = {"format": "litert", "int8": True, "out": out, "progress": Progress()}
    monkeypatch.setattr(litert, "_HALF", 0.1)
    with pytest.raises(FailureError, match=r"float32 0.* MB, and at most 10% of that is allowed"):
        convscope.export(digits_run, **asked)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(writing, "MOST_ACCURACY_LOST", 1.0)
    _, found = convscope.export(digits_run, **asked)
    assert found.size_mb < 0.3 * found.float32_mb
    assert found.agreement > 0.95
    assert 0 < found.largest_difference < 0.2
    assert "fully_quantize" not in capfd.readouterr().err
    small = FORMATS.get("litert")().open(out)
    val = convscope.load("digits", progress=Progress()).val
    probs = small.predict_on_batch(val.images)
    assert probs.dtype == np.float32
    assert len(np.unique(probs)) > 256  # not rounded to 256 levels
    assert small.spec.val_shares == shares_of(probs)
    assert small.spec.reject_below == least_familiarity(energy(probs), 0.95)
    assert ClassifierSpec.read(tmp_path / "small.tflite.json") == small.spec


def test_int8_names_the_formats_that_can(digits_run):
    with pytest.raises(ConfigError, match="--int8 is for the formats litert and onnx, not web"):
        convscope.export(digits_run, format="web", int8=True, progress=Progress())


HEAVY = "{'keras', 'tensorflow', 'scipy', 'sklearn', 'matplotlib', 'yaml', 'onnx'}"
COMMAND = f"""
import sys
from convscope.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)
"""
PYTHON = f"""
import sys
import convscope
print(next(convscope.predict(sys.argv[2], sys.argv[3:])).top(1))
heavy = {HEAVY} | {{'pydantic'}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


@pytest.mark.parametrize("code", [COMMAND, PYTHON], ids=["command", "Python"])
def test_predict_on_an_export_needs_no_framework(code, exported, tmp_path):
    (image,) = files(tmp_path, 1)
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(exported[0]), str(image)],
        capture_output=True,
        text=True,
        env={**os.environ, "CONVSCOPE_DEBUG": "1"},
    )
    assert done.returncode == 0, done.stderr
    expected = Classifier(exported[0]).predict(image)
    assert expected.class_name in done.stdout
