"""Explaining a run: it points to where the thing is, and the pages hold what they promise."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier.keras_model import open_classifier
from convscope.errors import DataError, UnknownNameError
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import UnreadableImage

SIDE, GLYPH = 32, 9


def draw(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """Return noise with a red disc or a blue cross in it, and where its upper left is."""
    pixels = rng.normal(110, 12, (SIDE, SIDE, 3))
    top, left = (int(each) for each in rng.integers(0, SIDE - GLYPH, 2))
    down, across = np.mgrid[:GLYPH, :GLYPH] - GLYPH // 2
    shape = {
        "disc": down**2 + across**2 <= (GLYPH // 2) ** 2,
        "cross": (np.abs(down) <= 1) | (np.abs(across) <= 1),
    }[kind]
    colour = np.array({"disc": (120, -40, -40), "cross": (-40, -40, 120)}[kind])
    pixels[top : top + GLYPH, left : left + GLYPH][shape] += colour
    return np.clip(pixels, 0, 255).astype(np.uint8), (top, left)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("glyphs"), np.random.default_rng(7)
    for kind in ("cross", "disc"):
        (folder / "images" / kind).mkdir(parents=True)
        for index in range(250):
            Image.fromarray(draw(kind, rng)[0]).save(folder / "images" / kind / f"{index}.png")
    done = convscope.train(
        "cnn-functional",
        data=folder / "images",
        epochs=8,
        precision="float32",
        out=folder / "run",
        progress=Progress(),
    )
    assert done.metrics["test"]["accuracy"] > 0.9
    return done.path


@pytest.fixture(scope="module")
def explained(run, tmp_path_factory) -> list:
    folder, rng = tmp_path_factory.mktemp("new"), np.random.default_rng(11)
    found = []
    for index in range(12):
        kind = ("cross", "disc")[index % 2]
        pixels, where = draw(kind, rng)
        Image.fromarray(pixels).save(folder / f"{kind}{index}.png")
        found.append((f"{kind}{index}", kind, where))
    results = convscope.explain(run, [folder], progress=Progress())
    by_name = {each.prediction.path.stem: each for each in results}
    return [(by_name[name], kind, where) for name, kind, where in found]


def share_on_the_glyph(heat: np.ndarray, where: tuple[int, int]) -> tuple[float, float]:
    """Return the share of a map's weight on the glyph and a margin, and the share of its area."""
    wide = np.asarray(
        Image.fromarray(np.maximum(heat, 0)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    )
    mask = np.zeros((SIDE, SIDE), bool)
    top, left = (max(0, each - 3) for each in where)
    mask[top : where[0] + GLYPH + 3, left : where[1] + GLYPH + 3] = True
    return float(wide[mask].sum() / max(wide.sum(), 1e-9)), float(mask.mean())


@pytest.mark.parametrize("how", ["gradcam", "occlusion"])
def test_what_speaks_for_a_class_lies_where_the_thing_is(explained, how):
    shares = [
        share_on_the_glyph(getattr(each, how), where)
        for each, kind, where in explained
        if each.prediction.class_name == kind and getattr(each, how).max() > 0.01
    ]
    assert len(shares) >= 6
    on, area = np.mean(shares, axis=0)
    assert on > 1.7 * area


def test_the_losses_are_of_the_probability_that_predict_gives(run, explained):
    each = explained[0][0]
    covered = each.image.copy()
    covered[:4, :4] = each.image.mean(axis=(0, 1))
    after = open_classifier(Run.open(run)).predict(covered).probs[each.class_name]
    lost = each.prediction.probs[each.class_name] - after
    assert each.occlusion[0, 0] == pytest.approx(lost, abs=1e-5)


def test_a_page_shows_each_step_with_its_arithmetic(explained):
    each = explained[0][0]
    page = each.page.read_text(encoding="utf-8")
    assert each.page.parent.name == "explanations"
    assert "floor((32 + 2*1 - 3)/1) + 1 = 32" in page
    assert [step.geometry.name for step in each.steps] == [
        *("conv1", "pool1", "conv2", "pool2", "conv3"),
    ]
    assert page.count("<img") == 3 + 1 + 5
    assert each.prediction.class_name in page


def test_it_can_be_asked_about_another_class_and_layer(run, explained, tmp_path):
    file = explained[0][0].prediction.path
    (of_disc,) = convscope.explain(
        run, [file], class_name="disc", layer="conv2", out=tmp_path, progress=Progress()
    )
    assert of_disc.class_name == "disc"
    assert of_disc.gradcam.shape == (16, 16)
    assert of_disc.page == tmp_path / f"{file.stem}.html"


def test_images_of_one_name_have_a_page_each(run, explained, tmp_path):
    source = explained[0][0].prediction.path
    pixels = Image.open(source)
    for name in ("a/one.png", "b/one.png", "two.png", "two.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels.save(tmp_path / name)
    found = convscope.explain(run, [tmp_path], out=tmp_path / "pages", progress=Progress())
    assert len({each.page for each in found}) == 4


def test_a_page_of_another_image_is_not_replaced_by_one_of_the_same_name(run, explained, tmp_path):
    first, second = (each[0].prediction.path for each in explained[:2])
    file, out = tmp_path / "photo.png", tmp_path / "pages"

    def page_of(source: Path, **more) -> Path:
        file.write_bytes(source.read_bytes())
        (found,) = convscope.explain(run, [file], out=out, progress=Progress(), **more)
        if found.explorer:
            assert found.explorer.name in found.page.read_text(encoding="utf-8")
        return found.page

    page = page_of(first, explorer=False)
    text = page.read_text(encoding="utf-8")
    other = page_of(second)
    assert page == out / "photo.html"
    assert re.fullmatch(r"photo-[0-9a-f]{8}\.html", other.name)
    assert page.read_text(encoding="utf-8") == text
    # Explained once more, also for another class, an image keeps its page.
    assert page_of(first, class_name="disc", explorer=False) == page
    assert page_of(second, explorer=False) == other


def test_a_file_that_cannot_be_read_costs_the_others_nothing(run, explained, tmp_path):
    good = explained[0][0].prediction.path
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    skipped, read = convscope.explain(run, [bad, good], out=tmp_path / "pages", progress=Progress())
    assert isinstance(skipped, UnreadableImage)
    assert skipped.reason.startswith(f"{bad} ")
    assert list((tmp_path / "pages").iterdir()) == [read.page]


def test_what_is_not_there_is_refused_in_a_line(run, explained):
    file = explained[0][0].prediction.path
    with pytest.raises(UnknownNameError, match="unknown class 'disk'; did you mean 'disc'"):
        convscope.explain(run, [file], class_name="disk", progress=Progress())
    with pytest.raises(UnknownNameError, match="unknown layer 'conv7'"):
        convscope.explain(run, [file], layer="conv7", progress=Progress())
    with pytest.raises(DataError):
        convscope.explain(run, ["nowhere.png"], progress=Progress())
