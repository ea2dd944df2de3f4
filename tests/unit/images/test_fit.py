"""How an image of another aspect ratio becomes one of a given size."""

import io

import numpy as np
import pytest
from PIL import Image

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec
from convscope.datasets import DataRequest
from convscope.datasets.folder import load_folder
from convscope.errors import ImageTooLargeError
from convscope.images.decode import decode_image
from convscope.images.fit import FITS, PADDING, inner_size, resize, to_aspect, without_bars


def stripes(columns: int, rows: int = 40) -> np.ndarray:
    """An image whose left, middle and right fourths (a half in the middle) are 0, 100 and 200."""
    pixels = np.full((rows, columns), 100, np.uint8)
    pixels[:, : columns // 4] = 0
    pixels[:, -columns // 4 :] = 200
    return pixels


def decoded(pixels: np.ndarray, size: tuple[int, int], fit: str, **saved: object) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **saved)
    return decode_image(stream.getvalue(), channels=1, size=size, fit=fit)[:, :, 0]


def test_squashing_keeps_all_and_changes_the_shape():
    found = decoded(stripes(80), (20, 20), "squash")
    assert found.shape == (20, 20)
    # Without the columns in which two colours meet.
    assert (found[:, :4] == 0).all()
    assert (found[:, 6:14] == 100).all()
    assert (found[:, 16:] == 200).all()


def test_cropping_keeps_the_centre():
    found = decoded(stripes(80), (20, 20), "crop")
    assert found.shape == (20, 20)
    # A square of 40 out of 80 columns leaves out the outer fourths, but for the resizing filter.
    assert (found[:, 1:-1] == 100).all()
    # The same upright, where rows are left out.
    assert (decoded(stripes(80).T, (20, 20), "crop")[1:-1] == 100).all()


def test_padding_keeps_all_between_grey_bars():
    found = decoded(stripes(80), (20, 20), "pad")
    assert (found[:5] == PADDING).all()
    assert (found[15:] == PADDING).all()
    assert (found[5:15, :4] == 0).all()
    assert (found[5:15, 6:14] == 100).all()
    assert (found[5:15, 16:] == 200).all()


@pytest.mark.parametrize("shape", [(20, 40, 3), (40, 20, 1), (39, 20, 3), (30, 30, 1), (1, 40, 3)])
def test_a_padded_image_is_what_is_between_its_bars(shape):
    pixels = np.random.default_rng(0).integers(128, 256, shape, dtype=np.uint8)
    spare = max(shape[:2]) - np.array(shape[:2])
    bars = [(each // 2, each - each // 2) for each in spare]
    padded = np.pad(pixels, [*bars, (0, 0)], constant_values=PADDING)
    assert np.array_equal(without_bars(padded), pixels)


def test_a_grey_image_has_no_bars():
    grey = np.full((5, 7, 3), PADDING, np.uint8)
    assert without_bars(grey).shape == grey.shape


def test_halves_of_a_pixel_between_the_bars_go_to_the_even_number():
    # 171.5, 58.5, 7.5 and 31.5 pixels; float64 divides to less than the last three.
    assert inner_size((392, 512), (224, 224)) == (172, 224)
    assert inner_size((273, 448), (96, 96)) == (58, 96)
    assert inner_size((112, 35), (24, 32)) == (24, 8)
    assert inner_size((112, 147), (24, 32)) == (24, 32)
    assert inner_size((3, 9000), (96, 96)) == (1, 96)


def test_a_crop_is_centred_even_if_it_begins_within_a_pixel():
    ramp = np.tile(np.arange(0, 210, 10, dtype=np.uint8), (4, 1))  # 21 columns, 4 rows
    # Columns 8.5 to 12.5: the mean of each two neighbours.
    assert decoded(ramp, (4, 4), "crop")[0].tolist() == [85, 95, 105, 115]


def test_colour_is_padded_with_the_same_grey():
    stream = io.BytesIO()
    Image.new("RGB", (40, 10), (250, 5, 90)).save(stream, "PNG")
    found = decode_image(stream.getvalue(), channels=3, size=(8, 8), fit="pad")
    assert found[0, 0].tolist() == [PADDING] * 3
    assert found[4, 4].tolist() == [250, 5, 90]


@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_the_right_aspect_is_resized_the_same_way_by_all(fit):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 60), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((16, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoded(pixels, (8, 16), fit), np.asarray(expected))


@pytest.mark.parametrize("fit", FITS)
def test_every_shape_can_be_fitted(fit):
    for rows in range(1, 50):
        for columns in range(1, 50):
            image = Image.new("L", (columns, rows), 9)
            assert resize(image, (7, 11), fit).size == (11, 7)
    # Sides that are not whole multiples in binary fractions.
    for columns in range(100, 400):
        assert resize(Image.new("L", (columns, 300), 9), (224, 224), fit).size == (224, 224)


@pytest.mark.parametrize("fit", FITS)
def test_images_of_a_single_line_can_be_fitted(fit):
    for shape in ((1, 300), (300, 1), (1, 1)):
        assert decoded(np.full(shape, 7, np.uint8), (16, 16), fit).shape == (16, 16)
        assert to_aspect(np.zeros((1, *shape, 1), np.uint8), (16, 16), fit).size


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_a_high_column_does_not_fill_the_memory_while_it_is_resized(fit):
    high = np.full((700_000, 1), 7, np.uint8)
    words = "is too large .1 x 700,000 pixels, 224 x 700,000 while it is resized; at most 134,"
    with pytest.raises(ImageTooLargeError, match=f"the image of .* bytes {words}"):
        decoded(high, (224, 224), fit)
    # Of an array too, at the limit of whoever asks.
    classifier = Classifier(_Corner(), ClassifierSpec(("a", "b"), 8, 8, 1, fit=fit))
    with pytest.raises(ImageTooLargeError, match="^the image is too large .1 x 1,001 pixels, 8 x"):
        classifier.decode(high[:1001], max_pixels=8000)
    assert (classifier.decode(high[:1000], max_pixels=8000) == 7).all()
    assert (classifier.decode(high.T) == 7).all()
    # Where the result itself has more pixels than the limit, an image of its height is fine.
    assert (classifier.decode(high[:8], max_pixels=8) == 7).all()


def test_a_high_column_is_padded_as_narrow_as_it_is():
    found = decoded(np.full((700_000, 1), 7, np.uint8), (224, 224), "pad")
    assert (found[:, 111] == 7).all()
    assert (np.delete(found, 111, axis=1) == PADDING).all()


@pytest.mark.parametrize("fit", FITS)
def test_an_image_is_turned_upright_before_it_is_fitted(fit):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a fourth clockwise
    turned = decoded(np.rot90(stripes(80)), (20, 10), fit, exif=exif)
    np.testing.assert_array_equal(turned, decoded(stripes(80), (20, 10), fit))


@pytest.mark.parametrize("fit", FITS)
def test_arrays_are_fitted_like_files(fit):
    pixels = stripes(80)
    fitted = to_aspect(pixels[None, :, :, None], (20, 20), fit)[0, :, :, 0]
    assert fitted.shape == {"squash": (40, 80), "crop": (40, 40), "pad": (80, 80)}[fit]
    resized = Image.fromarray(fitted).resize((20, 20), Image.Resampling.BILINEAR)
    # But for the lines at the edge of a crop or a bar, where the filter sees what is beyond.
    gaps = np.abs(np.asarray(resized).astype(int) - decoded(pixels, (20, 20), fit))
    assert (gaps[6:-6, 1:-1] == 0).all()
    assert gaps.max() < 20


@pytest.mark.parametrize("fit", FITS)
def test_a_file_is_judged_by_the_pixels_that_training_saw(tmp_path, fit):
    rng = np.random.default_rng(1)
    for name, shape in (("a/1.png", (30, 50)), ("a/2.png", (45, 20)), ("b/1.png", (25, 25))):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
    learnt = load_folder(DataRequest(tmp_path, image_size=16, fit=fit)).train
    classifier = Classifier(_Corner(), ClassifierSpec(("a", "b"), 16, 16, 3, fit=fit))
    for pixels, name in zip(learnt.images, learnt.ids, strict=True):
        np.testing.assert_array_equal(classifier.decode(tmp_path / name), pixels)


class _Corner:
    """Says "b" with the brightness of the first pixel as its probability."""

    def predict_on_batch(self, images) -> np.ndarray:
        bright = images[:, 0, 0, 0] / 255
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def test_a_classifier_fits_arrays_of_another_aspect():
    images = stripes(80)[None, :, :, None]
    for fit, corner in (("squash", 0), ("crop", 100), ("pad", PADDING)):
        spec = ClassifierSpec(("a", "b"), 20, 20, 1, fit=fit)
        said = Classifier(_Corner(), spec).predict_on_batch(images)
        assert said[0, 1] == pytest.approx(corner / 255)


@pytest.mark.parametrize(
    ("fit", "side", "note"),
    [
        ("squash", (12, 20), "images are 20 pixels wide and 12 high, grey; the model enlarges"),
        (
            "crop",
            (12, 12),
            "images become 12 x 12 pixels, grey, cropped (all are 20 pixels wide and 12",
        ),
        (
            "pad",
            (20, 20),
            "images become 20 x 20 pixels, grey, padded (all are 20 pixels wide and 12",
        ),
    ],
)
def test_small_images_of_one_size_get_the_shape_of_the_input_and_no_more_pixels(
    tmp_path, fit, side, note
):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(stripes(20, 12)).save(tmp_path / name / "1.png")
    dataset = load_folder(DataRequest(tmp_path, image_size=32, fit=fit))
    assert dataset.image_shape == (*side, 1)
    assert dataset.notes[0].startswith(note)
    # Without a square input there is nothing to fit.
    assert load_folder(DataRequest(tmp_path, fit=fit)).image_shape == (12, 20, 1)
