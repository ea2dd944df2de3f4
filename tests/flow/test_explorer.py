"""The explorer in a browser: its numbers are Keras' own, and everything can be done by keyboard."""

import itertools
import re

import keras
import numpy as np
import pytest
from accessible import axe, require_accessible
from PIL import Image

import convscope
from convscope.explain.forward import activations
from convscope.explorer.document import write_explorer
from convscope.explorer.payload import Subject, build_payload
from convscope.images.fit import FITS, resize
from convscope.progress import Progress
from convscope.wording import sureness

OUTPUTS = (
    """() => network.steps.map((step) => [step.name, Array.from(network.output(step).data)])"""
)
FOCUSED = """() => {
    const element = document.activeElement, first = element.getAttribute("aria-label");
    return first ?? element.closest("label")?.firstChild.textContent ?? element.textContent;
}"""
N_CONTROLS = """() => {
    const able = "a[href], button, select, input:not([type=file]), [tabindex]";
    const all = [...document.querySelectorAll(able)].filter((each) => each.checkVisibility());
    return all.filter((each) => each.tabIndex >= 0 && !each.disabled).length;
}"""


@pytest.fixture(scope="module")
def explained(digits_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    pixels = convscope.load("digits", progress=Progress()).val.images[7]
    Image.fromarray(pixels.squeeze()).save(folder / "a digit.png")
    (found,) = convscope.explain(
        digits_run, [folder / "a digit.png"], out=folder, progress=Progress()
    )
    return found


def close(found, wanted) -> None:
    """Require values within 1e-5 of the largest one."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(np.abs(wanted).max(), 1e-9))


def test_the_page_of_an_image_leads_to_its_explorer(explained):
    assert explained.explorer == explained.page.with_name("a digit-explorer.html")
    assert 'href="./a%20digit-explorer.html"' in explained.page.read_text("utf-8")
    assert explained.explorer.stat().st_size < 3_000_000
    # The temperature is one of the run's own.
    said = explained.prediction
    words = f"predict says {said.answer} ({sureness(said.probs[said.class_name], 1)})."
    assert words in explained.explorer.read_text("utf-8")


def test_its_numbers_are_those_of_keras_and_all_of_it_works_by_keyboard(
    explained, digits_run, open_page
):
    model = keras.saving.load_model(digits_run / "weights/last.keras")
    wanted = activations(model, explained.image[None])
    with open_page(viewport={"width": 390, "height": 800}, color_scheme="dark") as opened:
        page, complaints, asked = opened
        page.goto(explained.explorer.as_uri())
        page.wait_for_selector("html[data-ready]")
        found = dict(page.evaluate(OUTPUTS))
        assert [name for name in wanted if name != "resize"] == list(found)
        for name, values in found.items():
            close(values, wanted[name].reshape(-1))
        assert page.evaluate("document.documentElement.scrollWidth") == 390

        # From the overview to a map, to a value, number by number.
        page.get_by_label("conv2, map 0", exact=True).focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
            page.keyboard.press(key)
        name = page.evaluate(FOCUSED)
        channel = int(re.fullmatch(r"conv2, map (\d+)", name)[1])
        assert channel > 1
        page.keyboard.press("Enter")
        page.wait_for_url(f"**#/conv2/{channel}")
        page.get_by_label("Output of conv2").focus()
        for key in ("Home", "PageUp", "ArrowRight", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        page.wait_for_url(f"**#/conv2/{channel}/1/1")
        value = wanted["conv2"][0, 1, 1, channel]
        shown = page.locator(".layer-view > .equation strong").get_attribute("data-value")
        assert float(shown) == pytest.approx(value, abs=1e-5 * float(wanted["conv2"].max()))
        assert page.locator("#status").text_content().endswith(shown_as(page))
        patch = wanted["pool1"][0, 0:3, 0:3]
        part = int(re.search(r"Map (\d+)", page.locator(".numbers h3").first.text_content())[1])
        weights = model.get_layer("conv2").kernel.numpy()[..., part, channel]
        products = page.locator(".cell b").evaluate_all("all => all.map((b) => b.dataset.value)")
        close(np.array(products, float), (patch[..., part] * weights).reshape(-1))

        # The window slides, and stops.
        page.get_by_role("button", name="Play").press("Enter")
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Pause").press("Enter")
        row, column = page.url.split("/")[-2:]
        assert 4 * int(row) + int(column) > 5
        page.keyboard.press("Escape")
        page.wait_for_url("**#/")

        # Every kind of value adds up to what the layer gives.
        for layer, at in [("pool1/3/1/2", (1, 2, 3)), ("rescale/0/4/4", (4, 4, 0))]:
            page.evaluate("(hash) => { location.hash = hash; }", f"#/{layer}")
            name = layer.split("/")[0]
            page.wait_for_selector(f"h2:text-is('{name}')")
            shown = page.locator(".layer-view > .equation strong").get_attribute("data-value")
            close(float(shown), wanted[name][0][at])
        for layer, unit in [("flatten", 77), ("dense", 5), ("probs", 3)]:
            page.evaluate("(hash) => { location.hash = hash; }", f"#/{layer}/{unit}/0/0")
            page.wait_for_selector(f"h2:text-is('{layer}')")
            shown = page.locator(".layer-view > .equation strong").get_attribute("data-value")
            largest = float(wanted[layer].max())
            assert float(shown) == pytest.approx(wanted[layer][0, unit], abs=1e-5 * largest)
        logits = page.locator(".numbers table tr").last.text_content()
        assert logits.endswith("100 %")

        # The workbench, by Tab and arrow keys alone.
        page.get_by_role("link", name="Workbench").press("Enter")
        page.wait_for_selector(".workbench")
        formula = page.locator(".formula")
        assert plain(formula.text_content()) == "floor((8 + 2*1 - 1*(3 - 1) - 1) / 1) + 1 = 8"
        reached = set()
        for _ in range(page.evaluate(N_CONTROLS) + 5):
            page.keyboard.press("Tab")
            reached.add(page.evaluate(FOCUSED))
            if page.evaluate(FOCUSED) in ("Stride", "Dilation"):
                page.keyboard.press("ArrowDown")
            if page.evaluate(FOCUSED) == "Row 1, column 1":
                page.keyboard.press("Control+a")
                page.keyboard.type("9")
        assert {
            *("Input", "Channels", "Kernel", "Rows of the kernel", "Columns of the kernel"),
            *("Stride", "Padding", "Dilation", "Play", "Step back", "Step forward", "Speed"),
            *("Row 0, column 0", "Row 2, column 2", "Colour scale"),
        } <= reached
        assert any(plain(each).startswith("Output, 4 x 4 values") for each in reached)
        assert plain(formula.text_content()) == "floor((8 + 1 + 2 - 2*(3 - 1) - 1) / 2) + 1 = 4"
        kernel = np.full((3, 3, 1, 1), -1, np.float32)
        kernel[1, 1] = 9
        image = explained.image[None].astype(np.float32)
        plus = keras.ops.pad(image, ((0, 0), (1, 2), (1, 2), (0, 0)))
        step = {"strides": 1, "padding": "valid", "dilation_rate": 2}
        whole = np.asarray(keras.ops.conv(plus, kernel, **step))[0, ::2, ::2, 0]
        label = page.get_by_role("application").last.get_attribute("aria-label")
        row, column = re.search(r"row (\d), column (\d)", label).groups()
        shown = page.locator(".workbench > .equation strong").get_attribute("data-value")
        assert float(shown) == pytest.approx(float(whole[int(row), int(column)]), abs=1e-2)

        assert complaints == []
        assert {re.split("[#,]", url)[0] for url in asked} <= {explained.explorer.as_uri()}


def shown_as(page) -> str:
    """Return the value of the line under the pictures, as people read it."""
    return page.locator(".layer-view > .equation strong").text_content()


def plain(text: str) -> str:
    """Return a formula with the signs of a keyboard."""
    signs = {"\N{MINUS SIGN}": "-", "\N{MIDDLE DOT}": "*", "\N{MULTIPLICATION SIGN}": "x"}
    return text.translate(str.maketrans(signs))


@pytest.mark.slow
def test_its_views_have_no_serious_fault_on_any_screen(explained, open_page):
    if axe() is None:
        pytest.skip("axe-core is not there: CONVSCOPE_AXE")
    with open_page() as (page, complaints, _):
        for width, scheme in itertools.product((1280, 390), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            for view in ("", "conv1/3", "conv2/1/1/1", "pool1/3/1/2", "probs/3/0/0", "workbench"):
                page.goto(f"{explained.explorer.as_uri()}#/{view}")
                page.wait_for_selector("html[data-ready]")
                require_accessible(page, view, width, scheme)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.goto(explained.page.as_uri())
            require_accessible(page, "the page of the image", width, scheme)
        assert complaints == []


PIXELS = "() => Array.from(network.image.data)"
ANSWER = "() => Array.from(network.probs)"


def tap(page, element, row: float, column: float, of: int) -> None:
    """Touch a value of a square map."""
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    x = box["x"] + (column + 0.5) / of * box["width"]
    page.touchscreen.tap(x, box["y"] + (row + 0.5) / of * box["height"])


@pytest.mark.parametrize("fit", FITS)
def test_ones_own_photo_is_fitted_as_the_network_s_own_images_were(fit, open_page, tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    shown = np.zeros((8, 8, 3), np.uint8)
    subject = Subject("a run", "mine", "an image.png", ("a", "b"), fit=fit)
    write_explorer(build_payload(model, shown, subject), tmp_path / "explorer.html")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 32, 3), np.uint8))
    photo.save(tmp_path / "photo.png")
    with open_page() as (page, complaints, _):
        page.goto((tmp_path / "explorer.html").as_uri())
        page.wait_for_selector("html[data-ready]")
        page.set_input_files("input[type=file]", tmp_path / "photo.png")
        page.get_by_text("photo.png, resized by this page").wait_for()
        found = np.reshape(page.evaluate(PIXELS), (8, 8, 3))
    # Pillow rounds to whole numbers twice.
    assert np.abs(found - np.asarray(resize(photo, (8, 8), fit), int)).max() <= 1
    assert complaints == []


@pytest.mark.slow
def test_ones_own_image_painted_or_chosen_by_finger_is_answered_as_keras_does(
    explained, digits_run, open_page, tmp_path
):
    model = keras.saving.load_model(digits_run / "weights/last.keras")
    other = convscope.load("digits", progress=Progress()).val.images[23]
    Image.fromarray(other.squeeze()).save(tmp_path / "other.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    with open_page(reduced_motion="reduce", **phone) as (page, complaints, asked):
        page.goto(explained.explorer.as_uri())
        page.wait_for_selector("html[data-ready]")

        def require_answer_to(pixels) -> None:
            assert page.evaluate(PIXELS) == pixels.reshape(-1).tolist()
            close(page.evaluate(ANSWER), activations(model, pixels[None])["probs"][0])

        # A file of one's own; then one that is none.
        assert page.get_by_text("predict says").is_visible()
        page.set_input_files("input[type=file]", tmp_path / "other.png")
        page.get_by_text("other.png, resized by this page").wait_for()
        require_answer_to(other)
        assert not page.get_by_text("predict says").is_visible(), "that was of another image"
        page.set_input_files("input[type=file]", tmp_path / "broken.png")
        page.get_by_text("broken.png cannot be read as an image.").first.wait_for()
        require_answer_to(other)
        page.get_by_role("button", name="Original").tap()
        page.get_by_text("a digit.png").first.wait_for()
        require_answer_to(explained.image)
        assert page.get_by_text("predict says").is_visible()

        # Paint with a finger, and by keyboard.
        image = page.get_by_label(re.compile("The image as the network receives it"))
        painted = explained.image.copy()
        tap(page, image, 1, 6, of=8)
        painted[1, 6] = 255
        page.get_by_text("painted").wait_for()
        require_answer_to(painted)
        page.get_by_label("Paint with").select_option("black")
        image.focus()
        for key in ("PageUp", "Home", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        painted[2, 1] = 0
        require_answer_to(painted)

        # A finger opens a map, chooses a value, and opens it.
        page.get_by_label("conv1, map 3", exact=True).tap()
        page.wait_for_url("**#/conv1/3")
        target = page.get_by_label("Output of conv1")
        n = int(re.search(r"(\d+) \S \d+ values", target.get_attribute("aria-label"))[1])
        tap(page, target, 2, 5, of=n)
        assert "row 2, column 5" in target.get_attribute("aria-label")
        assert not page.locator(".cell").count()
        tap(page, target, 2, 5, of=n)
        page.wait_for_url("**#/conv1/3/2/5")
        assert page.locator(".cell").count() == 9
        value = activations(model, painted[None])["conv1"][0, 2, 5, 3]
        shown = page.locator(".layer-view > .equation strong").get_attribute("data-value")
        assert float(shown) == pytest.approx(float(value), abs=1e-4)

        # Less motion: the window slides slowly, and nothing glides.
        assert page.get_by_label("Speed").input_value() == "2"
        page.get_by_role("link", name="Network", exact=True).first.tap()
        style = "(each) => getComputedStyle(each).transitionDuration"
        assert page.locator(".share i").first.evaluate(style) == "0s"
        page.emulate_media(reduced_motion="no-preference")
        assert page.locator(".share i").first.evaluate(style) == "0.2s"
        assert complaints == []
        assert {re.split("[#,]", url)[0] for url in asked} <= {explained.explorer.as_uri(), "data:"}
