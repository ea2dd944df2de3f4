"""Thresholds of a model in int8, by what it says itself of validation images."""

import dataclasses
import importlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import Classifier as Exported
from convscope.classifier.exported import with_spec
from convscope.classifier.rejection import energy
from convscope.classifier.shares import Shares, shares_of
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import FailureError
from convscope.export import Int8
from convscope.export.onnx import onnx
from convscope.export.parity import Parity, compare_models, files_of
from convscope.export.thresholds import outputs_of, with_own_thresholds
from convscope.export.writing import _require_worth
from convscope.progress import Progress
from convscope.types import Dataset, Split

SPEC = ClassifierSpec(
    ("a", "b"),
    4,
    4,
    1,
    reject_below=0.5,
    reject_above=2.0,
    val_shares=Shares(1, (1.0, 0.0), (0.0,) * 10 + (1.0,)),
    in_graph=("resizing", "views", "temperature"),
)
SEVERAL = dataclasses.replace(
    SPEC, multi_label=True, thresholds=(0.5, 0.5), reject_above=0.0, reject_below=0.0
)

PARITY = Parity(100, 0.1, 0.96, (0.9, 0.9), 0, 1.0, {1: (2.0, 1.0)}, 1.0, "mAP", 4.0)
ANY = Int8(lambda function, images, progress: (b"", b""))


class Coarse:
    """A network that says how bright an image is, and that all images are far away."""

    def outputs(self, images, names):
        bright = images.mean(axis=(1, 2, 3)) / 255
        found = {"probs": np.stack([bright, 1 - bright], axis=1), "distance": 10 + 10 * bright}
        return {name: found[name].astype(np.float32) for name in names}

    def predict_on_batch(self, images):
        return self.outputs(images, ["probs"])["probs"]


@pytest.fixture
def part() -> Split:
    images = np.full((200, 4, 4, 1), np.arange(200).reshape(200, 1, 1, 1), np.uint8)
    return Split(images, np.zeros(200, np.int64), np.arange(200).astype(str))


def asked(spec, part):
    rows = np.arange(len(part))
    return outputs_of(Classifier(Coarse(), spec), part.images, rows, Progress())


def test_the_thresholds_accept_the_share_that_was_asked_for(part):
    outputs = asked(SPEC, part)
    assert (outputs["distance"] > SPEC.reject_above).all()
    own = with_own_thresholds(SPEC, outputs, part.labels, accepted=0.95, learnt=False)
    assert np.mean(outputs["distance"] <= own.reject_above) == pytest.approx(0.95, abs=0.01)
    assert np.mean(energy(outputs["probs"]) >= own.reject_below) == pytest.approx(0.95, abs=0.015)
    assert own.val_shares == shares_of(outputs["probs"])


def test_answers_to_images_that_were_learnt_choose_nothing(part):
    own = with_own_thresholds(SPEC, asked(SPEC, part), part.labels, accepted=0.95, learnt=True)
    assert own.reject_above > SPEC.reject_above
    assert own == dataclasses.replace(SPEC, reject_above=own.reject_above)


def test_what_was_unknown_stays_unknown(part):
    bare = ClassifierSpec(("a", "b"), 4, 4, 1, in_graph=SPEC.in_graph)
    outputs = asked(bare, part)
    assert list(outputs) == ["probs"]
    assert with_own_thresholds(bare, outputs, part.labels, accepted=0.95, learnt=False) == bare


def test_each_class_has_the_threshold_of_the_best_f1_for_what_it_says(part):
    labels = np.zeros((200, 2), np.uint8)
    labels[60:, 0] = 1  # brightness 60 and above; the other class has no image
    own = with_own_thresholds(SEVERAL, asked(SEVERAL, part), labels, accepted=0.95, learnt=False)
    assert own.thresholds == (pytest.approx(59.5 / 255, abs=1e-5), 0.5)


def test_each_of_two_models_decides_by_its_own_thresholds(part, monkeypatch):
    monkeypatch.setattr(importlib.import_module("convscope.export.parity"), "_SECONDS", 0.0)
    shifted = dataclasses.replace(SEVERAL, thresholds=(0.25, 0.5))
    labels = np.ones((200, 2), np.uint8)
    found = compare_models(
        Classifier(Coarse(), SEVERAL),
        Classifier(Coarse(), shifted),
        dataclasses.replace(part, labels=labels),
        files_of(part, None)[:1],
        size_mb=1,
        progress=Progress(),
        said=asked(SEVERAL, part)["probs"],
    )
    n_changed = 128 - 64  # images of a brightness from 0.25 to 0.5
    assert found.agreement == pytest.approx(1 - n_changed / 400)


def test_a_model_that_decides_otherwise_too_often_is_not_worth_it():
    _require_worth(PARITY, 2, ANY)
    with pytest.raises(FailureError, match=r"otherwise for 0\.20 classes of an image"):
        _require_worth(PARITY, 5, ANY)
    _require_worth(dataclasses.replace(PARITY, measure="accuracy"), 5, ANY)


def test_each_format_asks_for_its_own_gain():
    _require_worth(PARITY, 2, dataclasses.replace(ANY, least_speedup=2.0, largest_share=0.25))
    with pytest.raises(
        FailureError, match=r"less than 2\.1 times as fast .*\(2\.00 times at batch 1"
    ):
        _require_worth(PARITY, 2, dataclasses.replace(ANY, least_speedup=2.1))
    with pytest.raises(FailureError, match=r"1\.00 MB, float32 4\.00 MB, and at most 20% of that"):
        _require_worth(PARITY, 2, dataclasses.replace(ANY, largest_share=0.2))


def two_convolutions() -> bytes:
    """Return a network as an ONNX file; int8 rounds its second convolution."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    shapes = {"first": (8, 1, 3, 3), "second": (8, 8, 3, 3), "head": (8, 2)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    steps = [
        ("Cast", ["pixels"], "numbers", {"to": onnx.TensorProto.FLOAT}),
        ("Transpose", ["numbers"], "planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["planes", "first"], "map1", {}),
        ("Relu", ["map1"], "active1", {}),
        ("Conv", ["active1", "second"], "map2", {}),
        ("GlobalAveragePool", ["map2"], "mean", {}),
        ("Flatten", ["mean"], "features", {}),
        ("Tanh", ["features"], "bounded", {}),
        ("MatMul", ["bounded", "head"], "logits", {}),
        ("Softmax", ["logits"], "probs", {}),
        ("ReduceSumSquare", ["features", "axes"], "distance", {"keepdims": 0}),
    ]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(kind, given, [made], name=made, **how)
            for kind, given, made, how in steps
        ],
        "network",
        [
            onnx.helper.make_tensor_value_info(
                "pixels", onnx.TensorProto.UINT8, ["n", "height", "width", 1]
            )
        ],
        [
            onnx.helper.make_tensor_value_info("probs", onnx.TensorProto.FLOAT, ["n", 2]),
            onnx.helper.make_tensor_value_info("distance", onnx.TensorProto.FLOAT, ["n"]),
        ],
        [
            onnx.numpy_helper.from_array(values, name)
            for name, values in {**weights, "axes": np.array([1])}.items()
        ],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture
def written_in_int8(tmp_path, monkeypatch):
    """A function that writes a network in int8, given the temperature of the trained classifier.

    It returns the file's path and the validation images.
    """
    writing = importlib.import_module("convscope.export.writing")
    monkeypatch.setattr(importlib.import_module("convscope.export.parity"), "_SECONDS", 0.0)
    monkeypatch.setattr(writing, "build_function", lambda *given, **how: None)
    module = importlib.import_module("convscope.export.onnx")
    monkeypatch.setattr(module, "to_onnx", lambda function: two_convolutions())
    monkeypatch.setattr(module, "_FASTER", 0.0)
    monkeypatch.setattr(writing, "MOST_ACCURACY_LOST", 1.0)
    monkeypatch.setattr(importlib.import_module("convscope.export.parity"), "_enlarged", as_png)
    images = np.random.default_rng(1).integers(0, 256, (300, 8, 8, 1), np.uint8)
    train, val = (
        Split(each, np.zeros(len(each), np.int64), np.arange(len(each)).astype(str))
        for each in (images[:100], images[100:])
    )
    dataset = Dataset("some", ("a", "b"), train, val)

    def write(temperature):
        spec = dataclasses.replace(SPEC, height=8, width=8, in_graph=(), temperature=temperature)
        (tmp_path / "trained.onnx").write_bytes(with_spec(two_convolutions(), spec))
        trained = Exported(tmp_path / "trained.onnx")
        trained.familiarity = SimpleNamespace(farthest=1e-3)
        path, asked = tmp_path / "small.onnx", {"accepted": 0.95, "learnt": False}
        writing.write_int8(trained, onnx(), path, dataset, None, Progress(), **asked)
        return path, val.images

    return write


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    return file.getvalue()


def test_the_file_in_int8_holds_its_own_thresholds(written_in_int8):
    path, images = written_in_int8(temperature=1.0)
    small = Exported(path)
    probs, rejected = small.predict_and_reject(images)
    assert rejected.mean() == pytest.approx(0.05, abs=0.01)
    assert small.spec.val_shares == shares_of(probs)
    assert ClassifierSpec.read(path.with_name("small.onnx.json")) == small.spec


def test_a_file_in_int8_of_another_network_than_the_trained_one_is_not_kept(
    written_in_int8, tmp_path
):
    # Of the graph that is written here, no temperature is a part.
    with pytest.raises(FailureError, match="does not give the answers of the trained one"):
        written_in_int8(temperature=3.0)
    assert [file.name for file in tmp_path.iterdir()] == ["trained.onnx"]
