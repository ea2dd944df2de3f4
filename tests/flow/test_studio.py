"""The studio in a browser: from dropped images to answers, with a kill between.

With CONVSCOPE_SHOTS the folder of that name gets a picture of each step.
"""

import base64
import csv
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accessible import require_accessible
from PIL import Image

from convscope.studio.uploads import Uploads
from convscope.studio.workplace import Workplace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("nicegui") is None,
        reason="needs NiceGUI: pip install 'convscope[studio]'",
    ),
    pytest.mark.skipif(os.name != "posix", reason="kills by a signal"),
]

NAMES = {0: "zero", 1: "one", 3: "three", 8: "eight"}
PARTS = {"train": 50, "val": 20, "test": 10}
N_WRONG = 3
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
DROP = """([text, name]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type: "image/png" }));
    const zone = document.querySelector("[data-drop]");
    for (const kind of ["dragover", "drop"])
        zone.dispatchEvent(new DragEvent(kind,
            { dataTransfer: data, bubbles: true, cancelable: true }));
}"""

LEAVE = """() => {
    const leaving = new Event("beforeunload", { cancelable: true });
    dispatchEvent(leaving);
    return leaving.defaultPrevented;
}"""

FOCUSED = """() => {
    const it = document.activeElement;
    const kind = ["q-btn", "q-checkbox", "q-tab"].find((name) => it.classList.contains(name));
    return [kind ?? it.tagName, getComputedStyle(it).outlineStyle];
}"""


class Studio:
    """A studio in a process, which can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.place = Workplace(folder / "runs")

    def start(self) -> str:
        """Start it, and return the address with the token."""
        self.process = subprocess.Popen(
            [*(sys.executable, "-m", "convscope"), "studio", "--no-open", "--port", str(self.port)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        line = self.process.stdout.readline()
        assert "http://" in line, line + self.process.communicate(timeout=30)[0]
        self.port = int(re.search(r":(\d+)/", line)[1])
        return line.split()[-1]

    def end(self, number: int) -> str:
        """End it by a signal, and return what else it wrote."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[0]


@pytest.fixture
def studio(tmp_path):
    studio = Studio(tmp_path)
    studio.start()
    yield studio
    written = studio.end(signal.SIGINT)
    jobs = studio.place.jobs
    for job in jobs.active():
        job.stop()
    while jobs.active():
        time.sleep(0.2)
    assert "Traceback" not in written


@pytest.fixture
def digits(tmp_path) -> tuple[Path, list[str]]:
    """A folder of small images, and those of its validation part whose label is wrong."""
    sklearn = pytest.importorskip("sklearn.datasets")
    bunch = sklearn.load_digits()
    root, wrong = tmp_path / "digits", []
    for number, name in NAMES.items():
        images = iter(bunch.images[bunch.target == number])
        for part, n in PARTS.items():
            for index in range(n):
                label = name
                if part == "val" and name == "three" and index < N_WRONG:
                    label = "eight"
                    wrong.append(f"val/eight/{name}-{index}.png")
                place = root / part / label / f"{name}-{index}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((next(images) * 15.9).astype("uint8")).save(place)
    return root, wrong


def looked_at(page, name: str, shots: list[str]) -> None:
    """Require that a page fits a phone and has no serious fault; keep pictures of it."""
    folder = os.environ.get("CONVSCOPE_SHOTS")
    shots.append(name)
    for width, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        if folder:
            file = Path(folder) / f"{len(shots):02}-{name}-{width}-{scheme}.png"
            page.screenshot(path=file, full_page=True)
        require_accessible(page, name, width, scheme)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")


def train_tiny(page, epochs: int) -> None:
    """Fill in the form of a training of few epochs, and begin it."""
    page.get_by_role("button", name="One recipe and model").click()
    page.get_by_label("Epochs").fill(str(epochs))
    page.get_by_text(f"--epochs {epochs}").wait_for()
    page.get_by_role("button", name="Train", exact=True).click()


def test_from_dropped_images_to_answers_through_a_kill_and_a_corrected_label(
    studio, digits, open_page
):
    root, wrong = digits
    token = studio.place.token()
    at = f"http://127.0.0.1:{studio.port}"
    shots: list[str] = []
    with open_page(viewport={"width": 1280, "height": 900}) as (page, complaints, asked):
        page.set_default_timeout(int(os.environ.get("CONVSCOPE_PATIENCE", "300000")))
        page.goto(f"{at}/?token={token}")
        page.get_by_role("heading", name="Your images").wait_for()
        looked_at(page, "data", shots)

        # The images are chosen, seen and checked.
        page.set_input_files("input[webkitdirectory]", root)
        page.wait_for_url("**/data?data=*")
        page.get_by_text("320 images of 4 classes: 200 train, 80 val, 40 test").wait_for()
        page.get_by_role("button", name="Check the images").click()
        page.get_by_text("320 images: nothing found.").wait_for()
        page.get_by_role("button", name="Check the images again").wait_for()
        looked_at(page, "checked", shots)
        (dropped,) = studio.place.uploads.glob("*/digits")
        kept = {path: path.read_bytes() for path in dropped.rglob("*.png")}
        assert len(kept) == 320

        # A training is watched; the page and the studio go, it does not.
        page.get_by_role("button", name="Train on them").click()
        page.wait_for_url("**/train?data=*")
        looked_at(page, "form", shots)
        train_tiny(page, 300)
        page.locator("svg.cs-chart").first.wait_for()
        page.reload()
        page.locator("svg.cs-chart").first.wait_for()
        looked_at(page, "training", shots)
        (job,) = studio.place.jobs.active()
        studio.end(signal.SIGKILL)
        assert job.status == "running"
        studio.start()
        page.goto(f"{at}/train")
        complaints.clear()  # of its sockets, while nobody answered
        page.locator("svg.cs-chart").first.wait_for()
        assert job.status == "running"
        page.get_by_role("link", name="Open the run").click()
        page.wait_for_url("**/run/digits-tutorial")
        assert job.status == "done"
        looked_at(page, "run", shots)

        # A wrong answer turns out to be a wrong label.
        page.get_by_role("button", name=f"{N_WRONG} images of eight, predicted three").click()
        page.get_by_role("heading", name="eight, predicted as three").wait_for()
        for image in wrong:
            page.get_by_role("button", name=f"{image}: three", exact=True).click()
        page.get_by_text(f"{N_WRONG} labels corrected").wait_for()
        looked_at(page, "corrected", shots)
        page.get_by_role("button", name="Train with the corrected labels").click()
        page.wait_for_url("**/train?data=*&labels=*&run=digits-tutorial")
        page.get_by_text(
            re.compile("--config .*digits-tutorial/config.yaml --epochs 300")
        ).wait_for()
        (table,) = studio.place.labels.glob("*.csv")
        with table.open(newline="") as file:
            labels = {row["file"]: row["label"] for row in csv.DictReader(file)}
        assert len(labels) == 320
        assert {name for name, label in labels.items() if f"/{label}/" not in name} == set(wrong)
        train_tiny(page, 40)
        page.get_by_role("link", name="Open the run").first.wait_for()
        page.get_by_text("digits-tutorial-2").first.wait_for()
        page.locator("a[href='/run/digits-tutorial-2']").first.click()
        page.wait_for_url("**/run/digits-tutorial-2")
        page.get_by_role("heading", name="Confusion matrix").wait_for()
        cell = page.get_by_role("button", name=re.compile("images of eight, predicted three"))
        assert cell.count() == 0
        assert {path: path.read_bytes() for path in dropped.rglob("*.png")} == kept

        # The runs beside each other.
        page.get_by_role("link", name="Runs").click()
        for name in ("digits-tutorial", "digits-tutorial-2"):
            page.get_by_role("checkbox", name=f"Select {name}", exact=True).click()
        page.get_by_text("Compare: is one better?").wait_for()
        looked_at(page, "runs", shots)

        # Exported, and asked.
        page.goto(f"{at}/use/digits-tutorial-2")
        page.get_by_role("button", name="Export").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        exported = studio.place.root / "digits-tutorial-2/export/digits-tutorial-2.onnx"
        assert Path(download.value.path()).read_bytes() == exported.read_bytes()
        page.get_by_text(re.compile("convscope serve .*/digits-tutorial-2.onnx$")).wait_for()
        image = root / "test/one/one-3.png"
        page.evaluate(DROP, [base64.b64encode(image.read_bytes()).decode(), image.name])
        answer = page.locator("figure", has_text=image.name)
        answer.get_by_text(re.compile("^one$")).wait_for()
        looked_at(page, "used", shots)
        page.goto(f"{at}/inside/digits-tutorial-2")
        page.set_input_files("input[accept^='image/*']", image)
        page.locator("iframe").first.wait_for()
        looked_at(page, "inside", shots)
        page.goto(f"{at}/data?data=digits")
        page.get_by_role("button", name="Show some of them").click()
        page.get_by_role("img", name=re.compile("Some training images of digits")).wait_for()
        looked_at(page, "dataset", shots)
        for address in ("use", "inside", "run/none"):
            page.goto(f"{at}/{address}")
            page.get_by_role("heading", level=1).wait_for()
            looked_at(page, address.replace("/", "-"), shots)

        # What was uploaded is listed with its size; what no run learnt from goes.
        assert len(list(studio.place.uploads.iterdir())) == 3
        page.goto(f"{at}/data")
        page.get_by_text("digits-tutorial-2").wait_for()
        looked_at(page, "uploads", shots)
        page.get_by_role("button", name="Remove the 2 uploads without a run").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
        page.get_by_text("1 upload, ").wait_for()
        assert list(studio.place.uploads.iterdir()) == [dropped.parent]
        assert complaints == []
        assert {url.partition("?")[0].split("/")[2] for url in asked if "//" in url} == {
            f"127.0.0.1:{studio.port}"
        }


def test_files_of_an_upload_that_are_not_taken_are_told_before_the_page_goes_on(
    studio, open_page, tmp_path
):
    folder = tmp_path / "photos"
    for name in ("what?/1.png", "what?/2.jfif", "cats/3.png", "cats/ 4.png", "cats/notes.xyz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name, "PNG")
    (folder / ".hidden").touch()
    at = f"http://127.0.0.1:{studio.port}"
    with open_page(viewport={"width": 1280, "height": 900}) as (page, complaints, _):
        # From a page of another site, as a chat or a notebook in the browser.
        page.goto("data:text/html,<a href='" + f"{at}/?token={studio.place.token()}" + "'>it</a>")
        page.get_by_role("link", name="it").click()
        page.get_by_role("heading", name="Your images").wait_for()
        held: list = []
        page.route(re.compile("/upload/.*path="), lambda route: held.append(route))
        page.set_input_files("input[webkitdirectory]", folder)
        while len(held) < 4:
            page.wait_for_timeout(50)
        # While files are sent, the browser asks before the page is left; the drop is not whole.
        assert page.evaluate(LEAVE)
        assert [each.is_whole for each in Uploads(studio.place.uploads).all()] == [False]
        for each in held:
            each.continue_()
        page.get_by_text("1 of 4 files refused: a file called 'photos/cats/ 4.png'").wait_for()
        page.get_by_text("1 file left out, of a kind that is not taken").wait_for()
        (drop,) = Uploads(studio.place.uploads).all()
        assert drop.is_whole
        assert not page.evaluate(LEAVE)
        looked_at(page, "refused", [])
        assert not page.url.partition("?")[2]
        page.get_by_role("button", name="Go on with 3 files").click()
        page.wait_for_url("**/data?data=*")
        page.get_by_text("3 images of 2 classes").wait_for()
        # The browser itself notes the status of the refused file.
        assert [each for each in complaints if "status of 400" not in each] == []


def test_the_keyboards_focus_is_seen_on_every_kind_of_control(studio, open_page):
    with open_page(viewport={"width": 1280, "height": 900}) as (page, _, _):
        page.goto(f"http://127.0.0.1:{studio.port}/?token={studio.place.token()}")
        page.goto(f"http://127.0.0.1:{studio.port}/train?data=digits")
        page.get_by_role("button", name="Train", exact=True).wait_for()
        outlines: dict[str, str] = {}
        for _ in range(30):
            page.keyboard.press("Tab")
            kind, outline = page.evaluate(FOCUSED)
            outlines[kind] = outline
        # A field has a thicker border in place of the outline.
        assert {kind for kind, outline in outlines.items() if outline == "none"} <= {
            "INPUT",
            "BODY",
        }
        assert {"A", "q-btn", "q-checkbox"} <= outlines.keys()
