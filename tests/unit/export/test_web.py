"""The page that classifies in a browser: it sees the pixels that `predict` sees."""

import base64
import functools
import http.server
import io
import json
import threading

import numpy as np
import PIL
import pytest
from packaging.version import Version
from PIL import Image

from convscope.classifier.classify import answer_of
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import ImageTooLargeError
from convscope.export import web
from convscope.images.decode import decode_image

SIZE = (24, 32)
# Before Pillow 13, lines were always resized before columns, and rounded in between.
TOLERANCE = 0 if Version(PIL.__version__) >= Version("13") else 1
PIXELS_OF = """([text, spec]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return pixelsOf(new Blob([bytes]), spec).then((found) => Array.from(found));
}"""


def encoded(pixels, kind="PNG", **settings):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **settings)
    return file.getvalue()


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    web.write_page(place, ClassifierSpec(("a", "b"), *SIZE, 3))
    return place


@pytest.fixture(scope="module")
def page(folder, open_page):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.func.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with open_page() as (opened, _, _):
        opened.goto(f"http://127.0.0.1:{server.server_port}/")
        yield opened
    server.shutdown()
    thread.join()
    server.server_close()


def seen_by(page, file, channels, fit):
    spec = {"height": SIZE[0], "width": SIZE[1], "channels": channels, "fit": fit}
    found = page.evaluate(PIXELS_OF, [base64.b64encode(file).decode(), spec])
    return np.array(found).reshape(*SIZE, channels)


def assert_seen(page, file, channels, fit, tolerance=TOLERANCE):
    expected = decode_image(file, channels=channels, size=SIZE, fit=fit).astype(int)
    off = np.abs(seen_by(page, file, channels, fit) - expected)
    assert off.max() <= tolerance, f"{(off > tolerance).mean():.1%} of the pixels"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_pixels_of_the_page_are_those_of_the_decoder(page, fit, channels):
    # Shrunk by odd factors, enlarged, of another aspect ratio either way, as they are, a line.
    # The last two end at half a pixel between the bars.
    sizes = ((301, 457), (11, 13), (90, 33), (31, 77), SIZE, (24, 64), (1, 40), (13, 40), (200, 90))
    sizes += ((112, 35), (208, 247))
    for size in sizes:
        assert_seen(page, encoded(noise(*size, 3)), channels, fit)


def test_grey_turned_and_transparent_files_are_read_as_the_decoder_does(page):
    turned = Image.Exif()
    turned[0x0112] = 6
    assert_seen(page, encoded(noise(70, 90)), 3, "pad")
    smooth = np.linspace(0, 255, 90 * 70 * 3).reshape(70, 90, 3).astype(np.uint8)
    # The browser decodes JPEG and composites by its own arithmetic.
    assert_seen(page, encoded(smooth, "JPEG", quality=95, exif=turned), 3, "crop", 1)
    assert_seen(page, encoded(noise(70, 90, 4)), 3, "crop", 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1100, 4099), (4099, 1100)])
def test_a_photo_larger_than_a_strip_is_read_whole(size, page):
    assert_seen(page, encoded(noise(*size), compress_level=1), 1, "squash")


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(2, 70_000), (70_000, 2)])
def test_an_image_that_no_canvas_holds_is_read_whole(size, fit, page):
    assert_seen(page, encoded(noise(*size, 3)), 3, fit)


def test_a_high_column_is_refused_as_by_the_decoder(page):
    from playwright.sync_api import Error

    file = encoded(noise(40_000, 2))
    with pytest.raises(ImageTooLargeError):
        decode_image(file, channels=1, size=(24, 4096))
    spec = {"height": 24, "width": 4096, "channels": 1, "fit": "squash"}
    with pytest.raises(Error, match="it is too large \\(2 x 40,000 pixels\\); make it smaller"):
        page.evaluate(PIXELS_OF, [base64.b64encode(file).decode(), spec])


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_page_names_the_classes_that_predict_names(multi_label, page):
    names = ("red", "green", "blue", "grey", "pink", "teal")
    thresholds = (0.5, 0.9, 0.25, 0.5, 0.5, 0.0001) if multi_label else ()
    spec = ClassifierSpec(names, *SIZE, 3, multi_label=multi_label, thresholds=thresholds)
    rows = np.float32(
        [
            [0.49, 0.98, 0.99, 0.01, 0.02, 0.00005],  # two of several
            [0.01, 0.02, 0.03, 0.01, 0.02, 0.00005],  # none
            [0.5, 0.9, 0.25, 0.5, 0.5, 0.5],  # at a threshold; float32's 0.9 is below
            [0.9, 0.91, 0.92, 0.93, 0.94, 0.001],  # more than the bars of an image usually are
        ]
    )
    # The model of the page is not there: its answers take its place.
    answers = """([found, probs]) => {
        spec = found;
        probsOf = async () => ({ probs, rejected: false });
        return classify([new File(["x"], "a.png")]).then(() => {
            const box = $("answers").firstChild;
            return [box.querySelector("strong").textContent, box.querySelectorAll(".bar").length];
        });
    }"""
    bars = []
    for probs in rows:
        answer, n_bars = page.evaluate(answers, [json.loads(spec.to_json()), probs.tolist()])
        assert answer == answer_of(spec, None, probs).answer
        assert multi_label == (answer not in names)
        bars.append(n_bars)
    page.reload()  # to the page as it is
    assert bars == ([5, 5, 6, 6] if multi_label else [5, 5, 5, 5])


def test_without_the_runtime_the_page_says_what_is_missing(page):
    from playwright.sync_api import expect

    expect(page.locator("#said")).to_contain_text(f"missing: put {web.RUNTIME[0]}")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").press("Enter")
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": b"x"})
    answer = page.locator("article")
    expect(answer).to_contain_text(f"missing: put {web.RUNTIME[0]}")
    # The browser cannot show it as a picture: the text has the whole width, below its name.
    expect(answer.locator(".name")).to_have_text("a.png")
    expect(answer.locator("img")).to_be_hidden()
    assert answer.evaluate("(box) => box.lastElementChild.clientWidth === box.clientWidth")


def test_the_runtime_is_copied_from_node_modules_or_the_user_reads_how_to_get_it(
    tmp_path, monkeypatch
):
    spec, note = ClassifierSpec(("a", "b"), *SIZE, 3), web.web().note
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    first, second = tmp_path / "my page", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
    web.write_page(first, spec)
    assert f"tar xzf onnxruntime-web-*.tgz -C '{first}/ort' --strip-components 2" in note(first)
    installed = tmp_path / "node_modules/onnxruntime-web/dist"
    installed.mkdir(parents=True)
    for name in web.RUNTIME:
        (installed / name).write_text(name)
    web.write_page(second, spec)
    assert [(second / "ort" / name).read_text() for name in web.RUNTIME] == list(web.RUNTIME)
    assert note(second) == f"To open the page: python -m http.server --directory {second}"
    assert "ort" not in (second / "SHA256SUMS").read_text()
