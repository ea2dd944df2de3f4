"""From files and pixels to answers, with a network that knows only how bright an image is."""

import dataclasses
import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.classifier import classify
from convscope.classifier.classify import Classifier, at_temperature, batch_size_for
from convscope.classifier.familiarity import Familiarity
from convscope.classifier.spec import ClassifierSpec, Views
from convscope.errors import ConfigError, ImageError, RunError, ShapeError
from convscope.progress import Progress
from convscope.types import NO_CLASS, ImagePrediction, PackedImage, UnreadableImage

SPEC = ClassifierSpec(("dark", "bright"), 6, 6, 1)


class Brightness:
    """Says "bright" with the mean brightness as its probability; sees the left half only."""

    def predict_on_batch(self, images) -> np.ndarray:
        bright = images[:, :, : images.shape[2] // 2].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def test_files_come_back_in_their_order_with_bad_ones_in_their_place(tmp_path):
    files, expected = [], []
    for index, value in enumerate([0, 255, None, 250, 3, None, None, 200]):
        file = tmp_path / f"{index}.png"
        if value is None:
            file.write_bytes(b"no image")
        else:
            # Sizes and modes differ; the model sees 6 x 6 grey.
            Image.new(
                "RGB" if index % 2 else "L", (5 + index, 9), (value,) * 3 if index % 2 else value
            ).save(file)
        files.append(file)
        expected.append(None if value is None else "bright" if value > 127 else "dark")
    for batch_size in (1, 2, 3, 100):
        found = list(
            Classifier(Brightness(), SPEC).predict_files(
                files, batch_size=batch_size, progress=Progress()
            )
        )
        assert [item.path for item in found] == files
        for item, name in zip(found, expected, strict=True):
            if name is None:
                assert isinstance(item, UnreadableImage)
                assert str(item.path) in item.reason
            else:
                assert isinstance(item, ImagePrediction)
                assert item.class_name == name
                assert sum(item.probs.values()) == pytest.approx(1.0, abs=1e-5)
                assert item.top(1)[0][0] == name


def test_an_array_of_images_of_the_size_of_the_model_needs_no_decoder(monkeypatch):
    images = np.repeat(np.array([0, 255, 250, 3, 200], np.uint8), 36).reshape(5, 6, 6, 1)
    expected = [("dark" if value < 128 else "bright") for value in images[:, 0, 0, 0]]
    classifier = Classifier(Brightness(), SPEC)
    enlarged = list(classifier.predict(images.repeat(2, 1), batch_size=2))
    monkeypatch.setattr(classify, "ThreadPoolExecutor", None)
    found = list(classifier.predict(images, batch_size=2))
    assert [answer.class_name for answer in found] == expected
    assert [answer.class_name for answer in enlarged] == expected
    assert {type(prob) for answer in found for prob in answer.probs.values()} == {float}


@pytest.mark.parametrize(
    ("side", "batch_size"), [(32, 512), (64, 256), (96, 128), (224, 32), (600, 16), (4096, 16)]
)
def test_batches_are_smaller_where_images_are_larger(side, batch_size):
    assert batch_size_for(side) == batch_size


@pytest.mark.parametrize("batch_size", [None, 2])
def test_each_image_of_a_live_source_is_answered_before_the_next_one_comes(batch_size):
    answered = 0

    def camera():
        for number in range(5):
            until = time.monotonic() + 20
            while answered < number and time.monotonic() < until:
                time.sleep(0.001)
            assert answered == number
            yield np.full((9, 5), 255 * (number % 2), np.uint8)
        yield b"no image"
        raise OSError("the camera is gone")

    found = []

    def look():
        nonlocal answered
        for said in Classifier(Brightness(), SPEC).predict(camera(), batch_size=batch_size):
            found.append(said)
            answered += 1

    with pytest.raises(OSError, match="the camera is gone"):
        look()
    assert [said.class_name for said in found[:5]] == ["dark", "bright"] * 2 + ["dark"]
    assert isinstance(found[5], UnreadableImage)


def test_batches_of_known_images_suit_their_size():
    sizes = []

    class Counting(Brightness):
        def predict_on_batch(self, images):
            sizes.append(len(images))
            return super().predict_on_batch(images)

    large = dataclasses.replace(SPEC, height=224)
    images = [np.zeros((3, 3), np.uint8)] * 40
    assert len(list(Classifier(Counting(), large).predict(images))) == 40
    assert sizes == [32, 8]


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_without_an_image_is_refused_and_not_the_end(batch_size, tmp_path):
    Image.new("L", (6, 6)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=f"batch_size must be at least 1, not {batch_size}"):
        Classifier(Brightness(), SPEC).predict([tmp_path / "a.png"], batch_size=batch_size)


def test_images_of_an_archive_are_answered_with_few_of_them_in_memory(tmp_path):
    file = tmp_path / "bright.png"
    Image.new("L", (9, 5), 255).save(file)
    content, waiting, most = file.read_bytes(), [], 0

    class Counted(PackedImage):
        def __del__(self):
            if self.content:
                waiting.pop()

    def images():
        nonlocal most
        for index in range(200):
            yield PackedImage(Path(f"x.zip/{index}.jpg"), reason="is a link, not an image")
            waiting.append(index)
            most = max(most, len(waiting))
            yield Counted(Path(f"x.zip/{index}.png"), content)

    found = list(
        Classifier(Brightness(), SPEC).predict_files(images(), batch_size=150, progress=Progress())
    )
    assert [item.path for item in found[:2]] == [Path("x.zip/0.jpg"), Path("x.zip/0.png")]
    assert {item.reason.partition(" ")[2] for item in found[::2]} == {"is a link, not an image"}
    assert [item.class_name for item in found[1::2]] == ["bright"] * 200
    assert most <= 3 * classify._DECODERS + 2


def test_the_answer_is_the_mean_over_views_at_the_temperature():
    images = np.zeros((1, 6, 6, 1), np.uint8)
    images[:, :, :3] = 204  # 0.8 on the left, 0 on the right
    alone = Classifier(Brightness(), SPEC).predict_on_batch(images)
    np.testing.assert_allclose(alone, [[0.2, 0.8]], atol=1e-6)
    spec = dataclasses.replace(SPEC, views=Views(mirror=True), temperature=0.5)
    classifier = Classifier(Brightness(), spec)
    np.testing.assert_allclose(
        classifier.averaged.predict_on_batch(images), [[0.6, 0.4]], atol=1e-6
    )
    odds = (0.6 / 0.4) ** 2
    wanted = [[odds / (1 + odds), 1 / (1 + odds)]]
    np.testing.assert_allclose(classifier.predict_on_batch(images), wanted, atol=1e-6)


def test_what_looks_like_no_class_is_rejected_if_asked(tmp_path):
    for value in (10, 120, 250):
        Image.new("L", (6, 6), value).save(tmp_path / f"{value}.png")
    files = [tmp_path / f"{value}.png" for value in (10, 120, 250)]
    spec = dataclasses.replace(SPEC, reject_below=1.0)
    classifier = Classifier(Brightness(), spec)
    found = list(classifier.predict_files(files, batch_size=2, progress=Progress(), reject=True))
    assert [(said.class_name, said.answer) for said in found] == [
        *(("dark", "dark"), ("dark", NO_CLASS), ("bright", "bright")),
    ]
    assert [said.rejected for said in classifier.predict(files)] == [False] * 3
    assert classifier.predict(files[1], reject=True).rejected
    assert not classifier.predict(files[0], reject=True).rejected
    with pytest.raises(RunError, match="no threshold"):
        Classifier(Brightness(), SPEC).predict(files[1], reject=True)


class BothAtOnce(Brightness):
    """Gives features too, which are its probabilities, and counts."""

    passes = 0

    def predict_on_batch(self, images, /):
        self.passes += 1
        return [super().predict_on_batch(images)] * 2


@pytest.mark.parametrize("mirror", [False, True])
def test_features_decide_before_probabilities_do(mirror):
    images = np.stack([np.full((6, 6, 1), value, np.uint8) for value in (10, 120, 250)])
    features = Brightness().predict_on_batch(images[1:])
    known = dataclasses.replace(Familiarity.of(features), farthest=1.0)
    both = BothAtOnce()
    spec = dataclasses.replace(SPEC, views=Views(mirror=mirror), temperature=2.0)
    classifier = Classifier(Brightness(), spec, known, both)
    probs, rejected = classifier.predict_and_reject(images)
    # The brightest and the middle one are known, the dark one lies beyond them.
    assert rejected.tolist() == [True, False, False]
    np.testing.assert_array_equal(probs, classifier.predict_on_batch(images))
    assert both.passes == 1


def test_an_exported_model_decides_by_its_distance_in_the_same_pass():
    class Exported(Brightness):
        passes = 0

        def outputs(self, images, names):
            self.passes += 1
            probs = self.predict_on_batch(images)
            found = {"probs": probs, "distance": 10 * probs[:, 1]}
            return {name: found[name] for name in names}

    images = np.stack([np.full((6, 6, 1), value, np.uint8) for value in (10, 120, 250)])
    network = Exported()
    spec = dataclasses.replace(SPEC, reject_above=8.0, reject_below=99.0)
    probs, rejected = Classifier(network, spec).predict_and_reject(images)
    assert rejected.tolist() == [False, False, True]
    np.testing.assert_array_equal(probs, network.predict_on_batch(images))
    assert network.passes == 1


def test_a_temperature_of_one_changes_nothing_and_zeros_stay_finite():
    probs = np.array([[1, 0], [0.5, 0.5]], np.float32)
    assert at_temperature(probs, 1) is probs
    found = at_temperature(probs, 20)
    assert np.isfinite(found).all()
    assert 0.9 < found[0, 0] < 1
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_white_is_that_of_the_training_images(tmp_path):
    for name, value in (("dark", 51.0), ("faint", 0.2)):
        Image.fromarray(np.full((6, 6), value, np.float32)).save(tmp_path / f"{name}.tif")
    files = [tmp_path / "dark.tif", tmp_path / "faint.tif"]

    def brightness(white: int | None) -> list[float | str]:
        classifier = Classifier(Brightness(), dataclasses.replace(SPEC, white=white))
        said = classifier.predict_files(files, batch_size=2, progress=Progress())
        return [
            answer.reason if isinstance(answer, UnreadableImage) else answer.probs["bright"]
            for answer in said
        ]

    assert brightness(255) == pytest.approx([0.2, 0], abs=1e-4)
    assert brightness(None) == pytest.approx([0.2, 0.2], abs=1e-4)
    refused, faint = brightness(1)
    assert "holds values up to 51, but white is 1 in the training images" in refused
    assert faint == pytest.approx(0.2, abs=1e-4)


def test_a_picture_whose_file_ends_early_is_unreadable_and_the_others_are_answered():
    held = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(held, "PNG")
    cut = Image.open(io.BytesIO(held.getvalue()[:2000]))  # its pixels are read when asked for
    classifier = Classifier(Brightness(), SPEC)
    found = list(classifier.predict([Image.new("L", (6, 6), 255), cut, Image.new("L", (6, 6))]))
    assert [type(each) for each in found] == [ImagePrediction, UnreadableImage, ImagePrediction]
    assert found[1].reason == "the image is truncated: the file ends before the image does"
    with pytest.raises(ImageError, match="the image is truncated"):
        classifier.predict(Image.open(io.BytesIO(held.getvalue()[:2000])))


def test_whatever_holds_an_image_is_one_image(tmp_path):
    file = tmp_path / "bright.png"
    Image.new("L", (9, 5), 255).save(file)
    content = file.read_bytes()
    pixels = np.full((5, 9), 255, np.uint8)

    class Placed:
        def __fspath__(self):
            return str(file)

    class Foreign:
        def __init__(self, held):
            self.held = held

        def __array__(self, *_, **__):
            return self.held

    classifier = Classifier(Brightness(), SPEC)
    with file.open("rb") as opened:
        kinds = [
            *(str(file), Placed(), content, bytearray(content), memoryview(content)),
            *(opened, io.BytesIO(content), Image.open(file), pixels, Foreign(pixels)),
        ]
        for kind in kinds:
            assert classifier.predict(kind).class_name == "bright", type(kind)
        many = list(classifier.predict(iter(kinds)))
    assert [said.class_name for said in many] == ["bright"] * len(kinds)
    assert [said.path == file for said in many] == [True] * 2 + [False] * 8
    for table in (np.array([str(file)] * 2), np.array([file] * 2), Foreign(np.array([file] * 2))):
        assert [said.path for said in classifier.predict(table)] == [file] * 2
    stacked = Foreign(np.stack([pixels] * 3)[..., np.newaxis])
    assert len(list(classifier.predict(stacked))) == 3


def test_images_that_are_read_as_they_are_needed_are_never_in_memory_together():
    class Far:
        shape, dtype = (3, 6, 5, 1), np.dtype(np.uint8)

        def __iter__(self):
            return (np.full(self.shape[1:], 255, np.uint8) for _ in range(self.shape[0]))

        def __array__(self, *_, **__):
            raise AssertionError

    found = list(Classifier(Brightness(), SPEC).predict(Far()))
    assert [said.class_name for said in found] == ["bright"] * 3


@pytest.mark.parametrize("wrong", [None, 3, 3.5, io.StringIO("x"), object(), np.zeros(3), {"a": 1}])
def test_what_is_no_image_is_not_called_a_damaged_one(wrong):
    classifier = Classifier(Brightness(), SPEC)
    with pytest.raises(ShapeError, match="an image is"):
        list(classifier.predict([wrong]))
    if not isinstance(wrong, dict | io.StringIO):
        with pytest.raises(ShapeError, match="an image is"):
            classifier.predict(wrong)
