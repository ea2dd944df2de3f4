"""What `predict` decides before an image is read."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import ConfigError, ConvscopeError
from convscope.images.decode import DECODER_VERSION
from convscope.progress import Progress

OPENED = "convscope.classifier.bulk.model.Classifier"


class Counting:
    def __init__(self):
        self.sizes = []

    def predict_on_batch(self, images):
        self.sizes.append(len(images))
        return np.full((len(images), 2), 0.5, np.float32)


@pytest.mark.parametrize(
    ("height", "width", "given", "expected"),
    [
        (224, 10, None, [32, 8]),
        (10, 224, None, [32, 8]),
        (32, 32, None, [40]),
        (224, 224, 25, [25, 15]),
    ],
)
def test_batches_suit_the_size_of_the_input(tmp_path, monkeypatch, height, width, given, expected):
    network = Counting()

    class Exported(Classifier):
        sha256 = "0" * 64

        def __init__(self, path, **settings):
            super().__init__(network, ClassifierSpec(("a", "b"), height, width, 1))

    monkeypatch.setattr(OPENED, Exported)
    for number in range(40):
        Image.new("L", (2, 2)).save(tmp_path / f"{number:02}.png")
    answers = convscope.predict("x.onnx", tmp_path, batch_size=given, progress=Progress())
    assert len(list(answers)) == 40
    assert network.sizes == expected


def test_a_batch_without_an_image_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        convscope.predict("x.onnx", tmp_path, batch_size=0, progress=Progress())


@pytest.mark.parametrize(("version", "n_lines"), [(DECODER_VERSION, 0), (DECODER_VERSION - 1, 1)])
def test_a_model_of_another_decoder_is_told(tmp_path, monkeypatch, version, n_lines):
    spec = ClassifierSpec(("a", "b"), 8, 8, 1, decoder_version=version)

    class Exported(Classifier):
        sha256 = "0" * 64

        def __init__(self, path, **settings):
            super().__init__(Counting(), spec)

    class Told(Progress):
        def say(self, text):
            said.append(text)

    said = []
    monkeypatch.setattr(OPENED, Exported)
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    list(convscope.predict("x.onnx", tmp_path, progress=Told()))
    assert len(said) == n_lines
    assert all(f"trained with version {version} of the decoder" in line for line in said)


@pytest.fixture
def exported(monkeypatch):
    """Let any model be one of two classes, or of the spec that is set."""
    specs = [ClassifierSpec(("a", "b"), 8, 8, 1)]

    class Exported(Classifier):
        sha256 = "0" * 64

        def __init__(self, path, **settings):
            super().__init__(Counting(), specs[-1])

    monkeypatch.setattr(OPENED, Exported)
    return specs


def test_standard_input_is_answered_as_its_paths_come(tmp_path, monkeypatch, exported):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    answered = 0

    def lines():
        for number in range(3):
            until = time.monotonic() + 20
            while answered < number and time.monotonic() < until:
                time.sleep(0.001)
            assert answered == number
            yield f"{tmp_path / 'a.png'}\n".encode()

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=lines(), encoding="utf-8"))
    for _ in convscope.predict("x.onnx", "-", progress=Progress()):
        answered += 1
    assert answered == 3


def test_images_are_sorted_into_folders_of_their_classes(tmp_path, exported):
    new, out, table = tmp_path / "new", tmp_path / "out", tmp_path / "answers.csv"
    new.mkdir()
    for number in range(3):
        Image.new("L", (2, 2), number).save(new / f"{number}.png")
    (new / "bad.png").write_bytes(b"no image")
    answers = convscope.predict(
        "x.onnx", new, out=table, sort_into=out, unsure_below=0.4, progress=Progress()
    )
    assert not (out / "sorted").exists()  # as they are taken
    assert len(list(answers)) == 4
    assert sorted(path.name for path in (out / "sorted" / "a").iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
    ]
    assert len(table.read_text().splitlines()) == 5


def test_answers_that_were_begun_without_copies_do_not_go_on_with_them(tmp_path, exported):
    new, table = tmp_path / "new", tmp_path / "answers.csv"
    new.mkdir()
    for number in range(3):
        Image.new("L", (2, 2), number).save(new / f"{number}.png")

    def stopped(**settings):
        answers = convscope.predict(
            "x.onnx", new, out=table, batch_size=1, progress=Progress(), **settings
        )
        next(answers)
        with pytest.raises(KeyboardInterrupt):
            answers._results.throw(KeyboardInterrupt)

    stopped()
    with pytest.raises(ConvscopeError, match=r"begun by another command \(sort_into\); remove"):
        stopped(sort_into=tmp_path / "out")
    (tmp_path / "answers.csv.part").unlink()
    stopped(sort_into=tmp_path / "out")
    stopped(sort_into=tmp_path / "out", unsure_below=np.float32(0))
    assert len(list((tmp_path / "out" / "sorted" / "a").iterdir())) == 2


def test_a_place_for_sorted_images_must_make_sense(tmp_path, exported, monkeypatch):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    monkeypatch.setenv("PHOTOS", str(tmp_path))

    def refused(images=tmp_path, **settings):
        with pytest.raises(ConvscopeError) as caught:
            convscope.predict("x.onnx", images, progress=Progress(), **settings)
        return str(caught.value)

    inside = tmp_path / "sorted"
    for images in (tmp_path, "$PHOTOS", f"{tmp_path}/**/*.png", "$PHOTOS/a?.png"):
        assert "never written to; choose another folder with --sort-into" in refused(
            images, sort_into=inside
        )
    assert refused(unsure_below=np.float32(0.5)) == "--unsure-below needs --sort-into"
    outside = tmp_path.parent / f"{tmp_path.name}-sorted"
    assert "a probability from 0 to 1" in refused(sort_into=outside, unsure_below=60)
    exported.append(ClassifierSpec(("a", "b"), 8, 8, 1, multi_label=True, thresholds=(0.5, 0.5)))
    assert "these images may have several" in refused(sort_into=outside)
    assert not outside.exists()
