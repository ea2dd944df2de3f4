"""The page: what the server gives it, and the page in a browser."""

import asyncio
import base64
import contextlib
import hashlib
import io
import re
import threading
import time

import numpy as np
import pytest
import uvicorn
from PIL import Image
from serving_server import Server, png

from convscope.classifier.shares import CONFIDENCES, Shares
from convscope.serving.page import covered


def test_its_policy_allows_its_own_script_and_nothing_of_another_host(server):
    said = server.ask("GET", "/")
    policy = said.headers["content-security-policy"]
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", said.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert not re.search(r"https?:|src=|@import|url[(]", said.text)


def test_covered_images_have_a_grey_square_at_each_place():
    image = np.zeros((8, 16, 1), np.uint8)
    image[:, 8:] = 200
    images = covered(image, 2, range(5))
    assert images.shape == (5, 8, 16, 1)
    assert (images[0] == image).all()
    for index, (row, column) in enumerate([(0, 0), (0, 15), (7, 0), (7, 15)], 1):
        assert images[index, row, column] == 100
        assert (images[index] != image).sum() == 4
        assert images[index, 4, 7] == image[4, 7]
    np.testing.assert_array_equal(covered(image, 2, range(2, 4)), images[2:4])


def test_why_says_what_the_best_class_loses_where():
    server = Server()
    file = io.BytesIO()
    # The first pixel decides.
    Image.fromarray(np.array([[7, 0], [0, 0]], np.uint8).repeat(2, 0).repeat(2, 1)).save(
        file, "PNG"
    )
    said = server.ask("POST", "/explain", content=file.getvalue()).json()
    assert said["class"] == "grey 7"
    assert (said["fit"], said["aspect"]) == ("squash", 1)
    losses = np.array(said["losses"])
    assert losses.shape == (10, 10)
    assert losses[0, 0] > 0.49
    assert not losses[-1].any()
    assert server.ask("POST", "/explain", content=b"x").status_code == 400


@pytest.mark.parametrize("options", [{"queue": 1}, {"queue": 64}, {"max_batch": 7}])
def test_why_is_answered_however_few_images_wait_or_are_a_batch(options):
    ramp = io.BytesIO()
    # The image alone is as grey as its first pixel; a square there, as grey as the mean.
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(ramp, "PNG")
    expected = Server().ask("POST", "/explain", content=ramp.getvalue()).json()
    server = Server(**options)
    said = server.ask("POST", "/explain", content=ramp.getvalue())
    assert said.status_code == 200
    assert said.json() == expected
    assert sum(server.network.batches) == 101
    assert max(server.network.batches) <= min(options.values())
    assert server.models.get().batcher.in_flight == 0


def test_shares_of_the_answers_are_counted():
    server = Server()
    server.predict(files=[("f", (str(n), png(n))) for n in (1, 1, 1, 2)])
    said = server.ask("GET", "/shares").json()
    assert said["images"] == said["recent_images"] == 4
    assert said["classes"][1] == {
        **{"class": "grey 1", "share": 0.75, "recent_share": 0.75, "val_share": None},
    }
    assert {each["at_most"] for each in said["confidence"] if each["share"]} == {0.5}
    assert (said["val_images"], said["drift"]) == (0, {})
    assert "convscope_drift{" not in server.ask("GET", "/metrics").text


USUAL = Shares(
    40,
    (0.25, 0.5, 0.25) + (0.0,) * 253,
    tuple(float(end in (0.5, 0.6)) / 2 for end in CONFIDENCES),
)


def test_shares_of_late_are_compared_with_those_on_validation_images():
    server = Server(val_shares=USUAL)
    assert "convscope_drift{" not in server.ask("GET", "/metrics").text
    server.predict(files=[("f", (str(n), png(n))) for n in (1, 1, 1, 2)])
    said = server.ask("GET", "/shares").json()
    assert said["val_images"] == 40
    grey = said["classes"][1]
    assert (grey["recent_share"], grey["val_share"]) == (0.75, 0.5)
    (usual,) = (each for each in said["confidence"] if each["at_most"] == 0.6)
    assert (usual["recent_share"], usual["val_share"]) == (0, 0.5)
    # A quarter should be grey 0 and is grey 1; half should be more confident.
    assert said["drift"] == {"classes": 0.25, "confidence": 0.5}
    lines = server.ask("GET", "/metrics").text.splitlines()
    assert 'convscope_drift{model="grey",of="classes"} 0.25' in lines
    assert 'convscope_val_answers{class="grey 1",model="grey"} 0.5' in lines
    assert 'convscope_val_confidence{le="0.5",model="grey"} 0.5' in lines
    assert 'convscope_val_confidence{le="0.6",model="grey"} 1.0' in lines


def test_shares_are_compared_by_class_where_an_image_may_have_several():
    # Grey 9 is part of every answer, grey 1 of those that show it.
    thresholds = tuple(0.001 if n == 9 else 0.4 for n in range(256))
    usual = Shares(40, tuple((0.5 if n == 1 else 0.25) for n in range(256)), USUAL.confidences)
    server = Server(thresholds=thresholds, val_shares=usual)
    server.predict(files=[("f", (str(n), png(n))) for n in (1, 1, 1, 2)])
    said = server.ask("GET", "/shares").json()
    assert [each["class"] for each in said["classes"] if each["share"] == 1] == ["grey 9"]
    assert said["classes"][1] == {
        **{"class": "grey 1", "share": 0.75, "recent_share": 0.75, "val_share": 0.5},
    }
    # Of grey 9, in all answers instead of a quarter.
    assert said["drift"] == {"classes": 0.75, "confidence": 0.5}
    lines = server.ask("GET", "/metrics").text.splitlines()
    assert 'convscope_drift{model="grey",of="classes"} 0.75' in lines
    assert 'convscope_val_answers{class="grey 1",model="grey"} 0.5' in lines


@contextlib.contextmanager
def address_of(server):
    """Run a server; yields its address."""
    config = uvicorn.Config(server.app, port=0, log_config=None, lifespan="off", ws="none")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()))
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield f"127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


def test_the_page_begins_with_the_most_probable_class_even_of_numbers(open_page, tmp_path):
    from playwright.sync_api import expect

    (tmp_path / "grey.png").write_bytes(png(254))
    # JavaScript lists keys that are whole numbers by their value, so 0 before 254.
    with address_of(Server(prefix="")) as address, open_page() as (page, _, _):
        page.goto(f"http://{address}/")
        page.locator("#files").set_input_files(tmp_path / "grey.png")
        expect(page.locator("#said")).to_have_text("grey.png: 254")
        names = page.locator("article .bar span").all_text_contents()
        shares = page.locator("article .bar em").all_text_contents()
    assert (names[0], shares[0]) == ("254", "50.0 %")
    assert sorted(names[1:]) == ["0", "1", "2", "3"]


BOX = """(answer) => {
    const [heat, image] = ["canvas", "img"].map((name) =>
        answer.querySelector(name).getBoundingClientRect());
    return [heat.width / image.width, heat.height / image.height,
        (heat.x - image.x) / image.width, (heat.y - image.y) / image.height];
}"""


@pytest.mark.parametrize(
    ("fit", "box"),
    [("squash", [1, 1, 0, 0]), ("crop", [0.5, 1, 0.25, 0]), ("pad", [1, 2, 0, -0.5])],
)
def test_the_heat_lies_over_what_the_model_that_answered_saw(open_page, tmp_path, fit, box):
    from playwright.sync_api import expect

    Image.new("L", (40, 20), 7).save(tmp_path / "wide.png")
    both = [{"name": "grey"}, {"name": "other"}]
    with address_of(Server(fit=fit)) as address, open_page() as (page, _, _):
        page.route("**/v2/repository/index", lambda route: route.fulfill(json=both))
        page.goto(f"http://{address}/")
        page.get_by_label("Model").select_option("grey")
        page.locator("#files").set_input_files(tmp_path / "wide.png")
        answer = page.locator("article")
        expect(answer.locator(".name")).to_have_text("wide.png, by grey")
        page.get_by_label("Model").select_option("other")
        answer.get_by_role("button", name="Why?").click()
        expect(answer).to_contain_text("Covering one part costs")
        assert answer.evaluate(BOX) == pytest.approx(box, abs=0.01)


def test_an_answer_without_a_picture_has_its_name_the_whole_width_and_no_why(open_page, tmp_path):
    from playwright.sync_api import expect

    Image.new("L", (40, 20), 7).save(tmp_path / "plain.tif")
    (tmp_path / "broken.png").write_bytes(b"rubbish")
    with address_of(Server()) as address, open_page() as (page, _, _):
        page.goto(f"http://{address}/")
        page.locator("#files").set_input_files([tmp_path / "plain.tif", tmp_path / "broken.png"])
        broken, plain = (page.locator("article").nth(place) for place in (0, 1))
        expect(broken).to_contain_text("broken.png")
        expect(broken).to_contain_text("not a whole image")
        expect(plain.locator(".name")).to_have_text("plain.tif")
        expect(plain.locator("strong")).to_have_text("grey 7")
        expect(plain.locator(".view")).to_be_hidden()
        assert plain.get_by_role("button").count() == 0
        widths = "(box) => [box, box.lastElementChild].map((each) => each.clientWidth)"
        for answer in (broken, plain):
            whole, text = answer.evaluate(widths)
            assert text == whole


def test_people_use_it_by_mouse_keyboard_and_camera_on_a_phone(open_page, tmp_path):
    from playwright.sync_api import expect

    server = Server(api_key="secret", val_shares=USUAL)
    phone = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}
    with address_of(server) as address, open_page(**phone) as (page, complaints, asked):
        page.goto(f"http://{address}/")
        page.get_by_label("API key").fill("secret")
        page.keyboard.press("Enter")
        expect(page.get_by_label("API key")).to_be_hidden()
        (tmp_path / "seven.png").write_bytes(png(7))
        (tmp_path / "no image.png").write_bytes(b"rubbish")
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose files").focus()
            page.keyboard.press("Enter")
        chooser.value.set_files([tmp_path / "seven.png"])
        expect(page.locator("#said")).to_have_text("seven.png: grey 7")
        answer = page.locator("article").first
        expect(answer.locator(".bar").first).to_contain_text("50.0 %")
        answer.get_by_role("button", name="Why?").click()
        expect(answer).to_contain_text("of probability. Red: covering lowers it")

        page.locator("#files").set_input_files(tmp_path / "no image.png")
        expect(page.locator("#said")).to_contain_text("not a whole image")
        page.get_by_role("button", name="Camera").click()
        page.get_by_role("button", name="Take the photo").click()
        expect(page.locator("#said")).to_contain_text("photo: grey")
        page.get_by_text("Predictions so far").click()
        expect(page.locator("#share")).to_contain_text("2 images")
        seven = page.locator("#share .bar", has_text="grey 7")
        expect(seven).to_contain_text("50.0 % (0.0 %)")
        expect(page.locator("#share")).to_contain_text("100.0 % of the answers would")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        dark = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
        assert "dark" in dark
        # Of the missing key and the damaged image.
        assert [each for each in complaints if not re.search("status of 40[01]", each)] == []
        assert {url.split("/")[2] for url in asked if url.startswith("http")} == {address}
