"""The exported page, with ONNX Runtime Web in a browser: it answers as `predict` does."""

import base64
import dataclasses
import functools
import http.server
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier.exported import Classifier
from convscope.classifier.rejection import energy
from convscope.export import web
from convscope.progress import Progress

THRESHOLD = 6.0
"""Energy below which the page rejects: some of the digits are on either side."""

PROBS_OF = """(text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return probsOf(new Blob([bytes]));
}"""


@pytest.fixture
def site(digits_export, tmp_path, monkeypatch):
    """The exported page of `digits_run`, with the runtime of the npm registry."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    subprocess.run(["npm", "pack", "--silent", "onnxruntime-web"], cwd=tmp_path, check=True)
    (packed,) = tmp_path.glob("onnxruntime-web-*.tgz")
    shutil.unpack_archive(packed, tmp_path / "unpacked")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "unpacked/package").rename(tmp_path / "node_modules/onnxruntime-web")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "digits_web"
    folder.mkdir()
    shutil.copyfile(digits_export[0], folder / "model.onnx")
    spec = Classifier(folder / "model.onnx").spec
    web.write_page(folder, dataclasses.replace(spec, reject_below=THRESHOLD))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.func.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.network
def test_it_answers_as_predict_by_keyboard_and_camera_on_a_phone(
    site, digits_run, open_page, tmp_path
):
    from playwright.sync_api import expect

    val = convscope.load("digits", progress=Progress()).val
    files = [tmp_path / f"{index}.{kind}" for index in range(6) for kind in ("png", "jpg")]
    for index, file in enumerate(files):
        picture = Image.fromarray(val.images[index].squeeze()).resize((150 + index, 190))
        picture.convert("RGB").save(file)
    expected = list(convscope.predict(digits_run, files, progress=Progress()))
    rejected = set()
    phone = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}
    with open_page(**phone) as (page, complaints, asked):
        page.goto(f"http://{site}/")
        expect(page.locator("#said")).to_have_text("")
        for file, wanted in zip(files, expected, strict=True):
            found = page.evaluate(PROBS_OF, base64.b64encode(file.read_bytes()).decode())
            if file.suffix == ".png":
                probs = np.array([list(wanted.probs.values())])
                np.testing.assert_allclose(found["probs"], probs[0], atol=1e-3)
                assert found["rejected"] == bool(energy(probs)[0] < THRESHOLD)
                rejected.add(found["rejected"])
            assert wanted.class_name == str(np.argmax(found["probs"]))
        assert rejected == {True, False}
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose files").press("Enter")
        (tmp_path / "no image.png").write_bytes(b"rubbish")
        chooser.value.set_files([files[0], tmp_path / "no image.png"])
        expect(page.locator("article")).to_have_count(2)
        expect(page.locator("#said")).to_contain_text("cannot read it")
        first = page.locator("article").last
        share = f"{100 * expected[0].probs[expected[0].class_name]:.1f} %"
        expect(first.locator(".bar").first).to_contain_text(share)
        page.get_by_role("button", name="Camera").press("Enter")
        expect(page.get_by_role("button", name="Take the photo")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_have_text(re.compile(r"photo: \d"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert "dark" in page.evaluate("getComputedStyle(document.documentElement).colorScheme")
        assert complaints == []
        assert {url.split("/")[2] for url in asked if url.startswith("http")} == {site}
