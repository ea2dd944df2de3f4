"""The explorer in a browser: its numbers are Keras' own, and everything can be done by keyboard."""

import re

import keras
import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.explain.forward import activations
from convscope.progress import Progress

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
    words = f"predict says {said.answer} ({said.probs[said.class_name]:.1%})."
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
