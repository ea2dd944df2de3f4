"""What pages show and do when they are used, on NiceGUI's simulated user: no browser, no server."""

import asyncio
import gc
import html
import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.checks.findings import CheckReport, DataFinding
from convscope.errors import RunError
from convscope.run import Run
from convscope.studio.jobs import Job, now
from convscope.studio.nice import ui
from convscope.studio.sources import Corrections, Source
from convscope.studio.uploads import Uploads
from convscope.studio.workplace import Workplace

OLD_RUN = Path(__file__).parents[2] / "data" / "run-of-version-0.1"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nicegui") is None,
    reason="needs NiceGUI: pip install 'convscope[studio]'",
)


@pytest.fixture(scope="module", autouse=True)
def little_garbage():
    """Spare what earlier tests left: NiceGUI collects all garbage, twice for each visit."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def visit(monkeypatch):
    """Return a function that draws a page and lets a person, a coroutine function, use it."""

    def visited(draw, person) -> None:
        async def whole() -> None:
            from nicegui.testing import user_simulation

            async with user_simulation(root=draw) as user:
                await user.open("/")
                await person(user)

        asyncio.run(whole())

    return visited


def test_a_drop_that_is_not_whole_is_listed_but_no_data(tmp_path, visit):
    from convscope.studio.dropped import show_uploads

    place = Workplace(tmp_path / "runs")
    files = Uploads(place.uploads)
    drop = files.begin()
    (place.uploads / drop / "v1.0").mkdir()

    async def listed() -> None:
        await show_uploads(place)

    async def coming(user) -> None:
        await user.should_see("being sent")
        await user.should_not_see(kind=ui.button)

    async def broken(user) -> None:
        await user.should_see("incomplete: not all files have been sent")
        assert not user.find("v1.0").elements.pop().props.get("href")

    async def whole(user) -> None:
        await user.should_see("v1.0")
        await user.should_not_see("incomplete")
        assert drop in user.find("v1.0").elements.pop().props["href"]

    visit(listed, coming)
    os.utime(place.uploads / drop / ".unfinished", (0, 0))
    visit(listed, broken)
    files.end(drop)
    visit(listed, whole)


def test_an_upload_that_was_put_to_use_since_the_page_was_drawn_stays(
    tmp_path, visit, photos, monkeypatch
):
    from convscope.studio.dropped import show_uploads

    place = Workplace(tmp_path / "runs")
    files = Uploads(place.uploads)
    drop = files.begin()
    shutil.copytree(photos, place.uploads / drop / "photos")
    files.end(drop)

    async def listed() -> None:
        await show_uploads(place)

    async def searched_since(user) -> None:
        user.find("Remove the 1 upload without a run").click()
        # A search that is stopped before its end has no settings but its state.
        run = Run(place.root / "searching")
        run.record(status="interrupted")
        state = {"from_file": {}, "given": {"data_path": str(place.uploads / drop / "photos")}}
        run.write_json(run.search_file, state)
        confirm(user)
        await user.should_see("is in use by now, so nothing was removed")
        assert (place.uploads / drop).is_dir()

    async def removed(user) -> None:
        await user.should_not_see("without a run")
        await user.should_see("images of searching")
        user.find(kind=ui.button, content="Remove").click()
        await user.should_see("searching learnt from these images.")
        asked = []
        monkeypatch.setattr(ui.navigate, "to", asked.append)
        confirm(user)
        while not asked:
            await asyncio.sleep(0.02)
        assert asked == ["/data"]
        assert not (place.uploads / drop).exists()

    def confirm(user) -> None:
        from nicegui.testing.user_interaction import UserInteraction

        # That of the dialog, the newest.
        buttons = user.find(kind=ui.button, content="Remove").elements
        UserInteraction(user, {max(buttons, key=lambda each: each.id)}, None).click()

    visit(listed, searched_since)
    visit(listed, removed)


@pytest.fixture
def photos(tmp_path):
    for name in ("cats", "dogs"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(2):
            pixels = np.full((8, 8, 3), 80 * number, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def job_of(place, kind, *words, run=None, about=None, code=0, at="", output="{}", number=1) -> Job:
    """Write the folder of an ended job of the studio."""
    folder = place.own / "jobs" / f"2026010{number}-0-{kind}"
    folder.mkdir(parents=True)
    order = {"words": list(words), "kind": kind, "about": about or {}, "created": at or now()}
    order |= {"title": f"A {kind}", "run": None if run is None else str(run)}
    (folder / "job.json").write_text(json.dumps(order))
    (folder / "output.txt").write_text(output)
    (folder / "ended.json").write_text(json.dumps({"at": at or now(), "code": code}))
    return Job(folder)


def test_a_search_for_wrong_labels_goes_on_only_where_it_looked_at_the_same_images(
    tmp_path, photos
):
    from convscope.studio.data import folder_of

    place = Workplace(tmp_path / "runs")
    source = Source(str(photos))
    first = folder_of(place, source, "suspects")
    assert first == place.root / "suspects-photos"
    about = {"data": source.data, "labels": ""}
    words = ("data", "suspects", "--data", str(photos), "--out", str(first), "--json")
    job = job_of(place, "suspects", *words, about=about)
    assert folder_of(place, Source(str(photos)), "suspects") == first
    # Another folder of the same name, one photo more, and a search that failed.
    other = tmp_path / "b" / "photos"
    shutil.copytree(photos, other)
    second = place.root / "suspects-photos-2"
    assert folder_of(place, Source(str(other)), "suspects") == second
    (job.path / "ended.json").write_text('{"at": "", "code": 2}')
    assert folder_of(place, Source(str(photos)), "suspects") == second
    (job.path / "ended.json").write_text('{"at": "", "code": 0}')
    time.sleep(0.02)
    shutil.copy2(photos / "cats" / "0.png", photos / "cats" / "new.png")
    assert folder_of(place, Source(str(photos)), "suspects") == second


def test_old_results_say_when_they_were_found_and_that_the_images_have_changed(
    tmp_path, photos, visit
):
    from convscope.studio import data

    place = Workplace(tmp_path / "runs")
    source = Source(str(photos))
    found = json.dumps({"findings": [], "n_images": 4})
    about = {"data": source.data, "labels": ""}
    job = job_of(place, "check", "data", "check", about=about, output=found)

    def card() -> None:
        data._check(place, source, ())

    async def current(user) -> None:
        await user.should_see(f"Done {job.ended[:16].replace('T', ' ')} UTC")
        await user.should_see("4 images: nothing found.")
        await user.should_not_see("have changed since")

    async def old(user) -> None:
        await user.should_see("Done 2026-01-02 03:04 UTC")
        await user.should_see("The images have changed since")

    visit(card, current)
    at = "2026-01-02T03:04:05+00:00"
    job_of(place, "check", "data", "check", about=about, output=found, at=at, number=2)
    visit(card, old)


def test_a_finding_that_a_setting_mends_leads_to_a_training_with_it(tmp_path, photos, visit):
    from convscope.studio import data, train

    place = Workplace(tmp_path / "runs")
    source = Source(str(photos))
    series = DataFinding(
        "warning", "series", "alike", "train apart", settings={"split.group": "(.*)/"}
    )
    copies = DataFinding(
        "note", "near-duplicates", "twins", "apart", settings={"split.near_copies": "true"}
    )
    found = CheckReport("photos", 4, {}, (series, copies)).to_json()
    about = {"data": source.data, "labels": ""}
    job_of(place, "check", "data", "check", about=about, output=found)
    for settings, asked in (
        (series.settings, {"group": ["(.*)/"]}),
        (copies.settings, {"near_copies": ["true"]}),
        ({}, {}),
    ):
        address = data.training(source, settings)
        assert parse_qs(urlsplit(address).query) == {"data": [source.data], **asked}

    async def led(user) -> None:
        await user.should_see("Train with each series in one part")
        await user.should_see("Train with near copies in one part")

    async def filled(user) -> None:
        (box,) = user.find(
            kind=ui.input, content="Pattern in file names that marks a group"
        ).elements
        assert box.value == "(.*)/"
        shown = [html.unescape(each.content) for each in user.find(kind=ui.html).elements]
        assert any("--set 'split.group=(.*)/'" in each for each in shown)

    visit(lambda: data._check(place, source, ()), led)

    async def ticked(user) -> None:
        await user.should_see("Keep near copies in one part")
        shown = [html.unescape(each.content) for each in user.find(kind=ui.html).elements]
        assert any("--set split.near_copies=true" in each for each in shown)

    visit(lambda: train.show(place, source.data, group="(.*)/"), filled)
    visit(lambda: train.show(place, source.data, near_copies=True), ticked)


def test_a_learning_curve_says_what_twice_as_many_images_would_give(tmp_path, photos, visit):
    from convscope.studio import data

    place = Workplace(tmp_path / "runs")
    source = Source(str(photos))
    found = {
        "n_images": 100,
        "points": [
            {"n_images": 40, "accuracy": 0.7, "low": 0.6, "high": 0.8},
            {"n_images": 80, "accuracy": 0.8, "low": 0.7, "high": 0.9},
        ],
        "expected_of_all": {"n_images": 100, "accuracy": 0.82, "low": 0.75, "high": 0.88},
        "expected": {"n_images": 200, "accuracy": 0.866, "low": 0.81, "high": 0.9},
        "classes": [
            {"class_name": "cats", "n_images": 50, "recall_of_half": 0.6, "recall": 0.75},
            {"class_name": "dogs", "n_images": 50, "recall_of_half": 0.8, "recall": 0.85},
        ],
    }
    about = {"data": source.data, "labels": ""}
    folder = data.folder_of(place, source, "learning-curve")
    assert folder == place.root / "learning-curve-photos"
    words = ("data", "learning-curve", "--out", str(folder))
    job_of(place, "learning-curve", *words, about=about, output=json.dumps(found))

    async def seen(user) -> None:
        await user.should_see(
            "With all 100 images expect an accuracy of about 82.0 %, with twice as many 86.6 % "
            "(81.0 to 90.0 %); with 80 it was 80.0 %."
        )
        await user.should_see("cats 75 % (60 % with half of the images), dogs 85 %")
        drawn = [each.content for each in user.find(kind=ui.html).elements]
        assert any("<title>expected, 200: 86.6 %</title>" in each for each in drawn)

    visit(lambda: data._learning_curve(place, source, ()), seen)
    assert data.folder_of(place, source, "learning-curve") == folder


def test_what_another_page_decided_is_shown_and_kept_from_the_next_decision_on(
    tmp_path, photos, visit
):
    from convscope.studio.correct import Doubt, decide

    place, source = Workplace(tmp_path / "runs"), Source(str(photos))
    doubts = [Doubt(f"cats/{number}.png", "cats", "dogs", 0.9) for number in range(2)]
    other = Corrections(source, place.labels)

    async def decided(user) -> None:
        other.decide("cats/0.png", "dogs")
        first, second = sorted(user.find(kind=ui.select).elements, key=lambda each: each.id)
        second.set_value("dogs")
        await user.should_see("2 labels corrected")
        assert first.value == "dogs"
        assert other.decided == {"cats/0.png": "dogs", "cats/1.png": "dogs"}

    visit(lambda: decide(place, source, doubts, says="Answer"), decided)


def test_a_studio_that_is_started_elsewhere_knows_the_jobs_of_the_folder(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "runs").mkdir()
    (elsewhere / "link").symlink_to(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    one = Workplace(Path("runs"))
    path = one.new_run("cats")
    job_of(one, "train", "train", "--out", str(path), run=path)
    monkeypatch.chdir(elsewhere)
    for named in (tmp_path / "runs", Path("../runs"), Path("link")):
        two = Workplace(named)
        assert [job.run for job in two.jobs.all()] == [two.root / "cats"]
        assert two.new_run("cats") == two.root / "cats-2"


def test_a_folder_of_images_is_absolute_however_it_is_typed(photos, visit, monkeypatch):
    from convscope.studio import data

    monkeypatch.chdir(photos)
    asked = []

    async def opened(user) -> None:
        monkeypatch.setattr(ui.navigate, "to", asked.append)
        user.find(kind=ui.input, content="Folder, zip").type("cats")
        user.find("Open").click()

    visit(data._browse, opened)
    assert asked == [data.address(str(photos / "cats"))]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A workplace with a run, whose jobs are kept but not begun."""
    shutil.copytree(OLD_RUN, tmp_path / "runs" / "old")
    place = Workplace(tmp_path / "runs")
    place.begun = []

    def submit(words, **more):
        place.begun.append([str(word) for word in words])
        number = len(place.begun)
        return job_of(place, more["kind"], *place.begun[-1], run=more.get("run"), number=number)

    monkeypatch.setattr(place.jobs, "submit", submit)
    return place


def test_a_double_click_begins_one_training(place, visit):
    from convscope.studio import train

    async def twice(user) -> None:
        user.find(kind=ui.button, content="Train").click().click()
        await asyncio.sleep(0.1)
        assert [words[:3] for words in place.begun] == [["train", "--data", "digits"]]

    visit(lambda: train.show(place, "digits"), twice)


def test_what_only_prints_is_led_to_the_page_that_shows_it():
    from convscope.studio.run import page_of

    words = ["data", "check", "--data", "my photos", "--labels", "a.csv"]
    assert page_of(words)[1] == "/data?data=my+photos&labels=a.csv"
    assert page_of(["gallery", "runs/a", "--of", "suspects"])[1] == "#cells"
    assert page_of(["compare", "runs/a", "runs/b"])[1] == "/runs"
    assert page_of(["train", "--config", "a.yaml"]) is None
    assert page_of([]) is None


def test_a_remedy_is_a_link_where_its_command_only_prints_and_a_button_elsewhere(place, visit):
    from convscope.studio.run import _findings

    def of(*commands: str) -> dict:
        remedies = [{"words": "do", "command": each} for each in commands]
        finding = {"sure": "possible", "symptom": "s", "evidence": "e", "remedies": remedies}
        return {"findings": {"trap": finding}}

    run = place.run("old")

    async def led(user) -> None:
        (link,) = user.find(kind=ui.link, content="Open the images").elements
        assert link.props["href"] == "/data?data=photos"
        await user.should_not_see("Run this")

    async def done(user) -> None:
        user.find("Run this").click().click()
        assert place.begun.pop() == ["evaluate", "runs/old", "--no-test"]

    async def asked(user) -> None:
        user.find("Run this").click()
        await user.should_see("Open the test images?")
        assert place.begun == []
        user.find("Open them").click()
        assert place.begun.pop() == ["evaluate", "runs/old"]

    async def resumed(user) -> None:
        user.find("Run this").click()
        words = ["train", "--resume", "runs/old", "--epochs", "9"]
        assert place.begun == [words]
        assert [job.run for job in place.jobs.all() if list(job.words) == words] == [run.path]

    for commands, person in (
        ("convscope data check --data photos", led),
        ("convscope evaluate runs/old --no-test", done),
        ("convscope evaluate runs/old", asked),
        ("convscope train --resume runs/old --epochs 9", resumed),
    ):
        shutil.rmtree(place.jobs.folder, ignore_errors=True)
        visit(lambda each=commands: _findings(place, run, of(each), lambda _: None), person)


def test_what_was_not_checked_is_said_and_certain_findings_are_mended_at_once(place, visit):
    from convscope.studio.run import _findings

    together = "convscope train --config c.yaml --image-size 160 --set backbone.scaling=own"
    found = {"findings": {}, "quiet": ["scaling"], "unknown": {"leaks": "no images"}}

    async def read(user) -> None:
        await user.should_see("1 trap checked, no alarm.")
        await user.should_see("not checked: leaks (no images)")
        user.find("Run this").click()
        assert place.begun[0][:-1] == [*together.split()[1:], "--out"]

    run = place.run("old")
    visit(lambda: _findings(place, run, {**found, "together": together}, lambda _: None), read)


def test_a_range_test_is_shown_where_it_was_asked_for(place, visit):
    from convscope.studio.run import _doctor

    remedy = {"words": "try", "command": "convscope doctor runs/old --range-test"}
    finding = {"sure": "likely", "symptom": "s", "evidence": "e", "remedies": [remedy]}
    job_of(
        *(place, "doctor", "doctor"),
        about={"run": "old"},
        output=json.dumps({"findings": {"learning-rate": finding}}),
        number=0,
    )

    async def tried(user) -> None:
        await user.should_see("try")
        user.find("Run this").click()
        assert place.begun == [["doctor", "runs/old", "--range-test", "--json"]]
        await asyncio.sleep(0.1)
        await user.should_not_see("Run this")

    visit(lambda: _doctor(place, place.run("old")), tried)


def test_a_report_from_before_a_change_is_called_old_and_can_be_written_again(place, visit):
    from convscope.studio.run import _files

    run = place.run("old")

    async def none(user) -> None:
        await user.should_not_see("again")
        user.find("Write the report").click()
        assert place.begun == [["report", str(run.path)]]

    async def current(user) -> None:
        await user.should_see("Write the report again")
        await user.should_not_see("has changed since")

    async def old(user) -> None:
        await user.should_see("The run has changed since its report was written.")

    visit(lambda: _files(place, run), none)
    run.report_page.touch()
    visit(lambda: _files(place, run), current)
    os.utime(run.report_page, (1, 1))
    visit(lambda: _files(place, run), old)


@pytest.mark.parametrize(
    ("status", "offered"),
    [("finished", False), ("interrupted", True), ("failed", True), ("trained", True)],
)
def test_resuming_is_offered_by_the_status_of_the_run_whatever_its_job_says(
    place, visit, status, offered
):
    from convscope.studio import train

    run = place.run("old")
    run.record(status=status)
    job_of(place, "train", "train", run=run.path, code=0 if offered else 130, number=1)
    job_of(place, "train", "train", run=run.path, code=130, number=2)
    for number in range(3, 10):
        job_of(place, "predict", "predict", number=number)

    async def listed(user) -> None:
        await user.should_see("Finished training runs")
        await user.should_see("Other finished jobs")
        if not offered:
            await user.should_not_see("Resume")
            return
        (_,) = user.find(kind=ui.button, content="Resume").elements
        user.find(kind=ui.button, content="Resume").click().click()
        assert place.begun == [["train", "--resume", str(run.path)]]

    visit(lambda: train.show(place), listed)


def test_a_training_that_a_restart_took_out_of_the_queue_is_started_by_a_button(
    place, visit, monkeypatch
):
    from convscope.studio import train

    words = ("train", "--out", "runs/a")
    lost = job_of(place, "train", *words, run=place.root / "a", at="2026-01-02", number=9)
    (lost.path / "ended.json").unlink()
    asked = []

    async def started(user) -> None:
        monkeypatch.setattr(ui.navigate, "to", asked.append)
        user.find(kind=ui.button, content="Start it").click()

    visit(lambda: train.show(place), started)
    assert place.begun == [list(words)]
    assert not lost.path.exists()
    assert asked == ["/train"]


def test_each_comparison_is_beside_the_runs_in_a_folder_of_its_own(place, visit):
    from convscope.studies.comparison.comparison import COMPARISON
    from convscope.studio import runs

    shutil.copytree(OLD_RUN, place.root / "new")
    out = place.root / "compare-old-new"

    async def compared(user) -> None:
        user.find(kind=ui.button, content="Compare: is one better?").click()
        await user.should_see("Report")
        (link,) = user.find("Report").elements
        assert link.props["href"] == "/comparison/compare-old-new"

    paths = [str(place.root / name) for name in ("old", "new")]
    whole = {"part": "val", "arms": [], "pairs": [], "val_looks": [], "data": "d", "n_images": 1}
    COMPARISON.write(out, whole)
    (out / "report.html").write_text("it")
    assert place.comparison_page("compare-old-new") == out / "report.html"
    for name in ("..", "old", "none", ""):
        with pytest.raises(RunError):
            place.comparison_page(name)
    moved = out.rename(out.parent.parent / "elsewhere")
    submit = place.jobs.submit

    def compare(words, **more):
        moved.rename(out)
        return submit(words, **more)

    place.jobs.submit = compare
    visit(lambda: runs._overlaid(place, ["old", "new"]), compared)
    assert place.begun == [["compare", *paths, "--out", str(out), "--json"]]
    assert runs._folder(place, ["old", "new"]) == place.root / "compare-old-new-2"


def test_a_training_is_resumed_once_by_two_pages(place, visit):
    from convscope.studio.resume import resume_button

    run = place.run("old")
    run.record(status="interrupted")

    async def resumed_by_the_other(user) -> None:
        with run.training_lock():
            user.find(kind=ui.button, content="Resume").click()
        assert place.begun == []

    visit(lambda: resume_button(place, run.path, "Resume"), resumed_by_the_other)


def test_a_stopped_search_without_a_run_can_be_resumed(place):
    from convscope.studio.resume import can_resume

    path = place.root / "searching"
    path.mkdir()
    assert not can_resume(place, path)
    Run(path).search_file.write_text("{}")
    assert can_resume(place, path)
    with Run(path).training_lock():
        assert not can_resume(place, path)


@pytest.mark.parametrize(
    ("file", "content", "shown"),
    [
        ("run.json", "{", "run.json is damaged"),
        ("run.json", '{"format": 99}', "was made by a newer convscope"),
        ("metrics.json", "{", "metrics.json is damaged"),
        ("metrics.json", '{"val": {"accuracy": "x"}}', "metrics.json is damaged"),
        ("metrics.json", '{"val": {"accuracy": 0.5}}', "accuracy on validation images"),
        ("metrics.json", '{"val": {"n_images": 7}}', "Validation images: not yet"),
        # A training that was stopped after its search.
        ("metrics.json", None, "Validation images: not yet"),
    ],
    ids=str,
)
def test_a_page_of_a_run_says_what_of_it_is_damaged(place, visit, file, content, shown):
    from convscope.evaluation.tried import Tried, write_tried
    from convscope.studio import run as run_page
    from convscope.studio.sources import Sources

    folder = place.root / "old"
    write_tried([Tried("frozen", 0, "a small network", 9.0, 0.4, 1.5)], folder / "tried.csv")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)

    async def read(user) -> None:
        await user.should_see(shown)

    visit(lambda: run_page.show(place, Sources(), "old"), read)


def test_the_test_images_of_a_sealed_run_are_opened_after_a_question(place, visit):
    from convscope.studio import run as run_page
    from convscope.studio.sources import Sources

    run = place.run("old")

    async def opened(user) -> None:
        await user.should_not_see("Evaluate on the test images")

    async def sealed(user) -> None:
        user.find("Evaluate on the test images").click()
        await user.should_see("Open the test images?")
        assert place.begun == []
        user.find("Open them").click().click()
        assert place.begun == [["evaluate", str(run.path)]]

    visit(lambda: run_page.show(place, Sources(), "old"), opened)
    metrics = {key: value for key, value in run.metrics.items() if key != "test"}
    run.write_json(run.metrics_file, metrics)
    visit(lambda: run_page.show(place, Sources(), "old"), sealed)


def test_a_blank_after_the_name_of_a_dataset_is_taken_away(place, visit):
    from convscope.studio import train

    async def begun(user) -> None:
        user.find(kind=ui.input, content="Images:").clear().type("digits ")
        user.find(kind=ui.button, content="Train").click()
        assert [words[:3] for words in place.begun] == [["train", "--data", "digits"]]

    visit(lambda: train.show(place), begun)


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are UTF-8 there")
def test_names_that_are_not_utf8_are_said_and_break_no_page(place, photos, visit, monkeypatch):
    from nicegui import json as wire

    from convscope.studio import data, runs
    from convscope.studio.sources import Sources, picture_address, picture_name

    odd = os.fsdecode(b"caf\xe9")
    (photos / odd).mkdir()
    (photos / "cats" / "0.png").rename(photos / odd / f"{odd}.png")
    (place.root / "old").rename(place.root / odd)
    monkeypatch.chdir(photos)

    async def sendable(user) -> None:
        for element in user.client.elements.values():
            wire.dumps(element._to_dict())

    async def browsed(user) -> None:
        await sendable(user)
        await user.should_see("caf\\udce9: the name is not UTF-8")
        user.find("dogs").click()
        await user.should_see("Choose this folder")
        await sendable(user)
        monkeypatch.chdir(photos / odd)

    async def inside(user) -> None:
        await sendable(user)
        await user.should_not_see("Choose this folder")

    visit(data._browse, browsed)
    visit(data._browse, inside)
    visit(lambda: runs.show(place), sendable)
    # Its pictures are shown, by the very bytes of their names.
    sources = Sources()
    source = sources.open(str(photos))
    (name,) = source.by_class[odd]
    asked = picture_address(source.key, name).partition("?")[2]
    assert "caf%E9%2Fcaf%E9.png" in asked
    assert sources.picture(source.key, picture_name(asked))[:2] == b"\xff\xd8"


def test_a_page_that_was_left_while_images_were_read_is_left_alone(
    place, photos, visit, monkeypatch
):
    from convscope.studio import data
    from convscope.studio.sources import Sources

    sources = Sources()
    raised = []

    async def shown() -> None:
        from nicegui import context

        client = context.client

        def slow(*args) -> Source:
            time.sleep(0.1)
            return Source(*args)

        monkeypatch.setattr(sources, "open", slow)
        asyncio.get_running_loop().call_later(0.05, client.delete)
        try:
            await data._shown(place, sources, str(photos), "")
        except Exception as error:
            raised.append(error)

    async def left(user) -> None:
        await asyncio.sleep(0.3)

    visit(shown, left)
    assert raised == []


@pytest.fixture
def loading(monkeypatch):
    """Seconds that the images of a cell take to load, by the class predicted; there are none."""
    from convscope.studio.cell import Cell

    seconds = {}

    def load(self, part, true, predicted):
        time.sleep(seconds.get(predicted, 0))
        return [], [], False

    monkeypatch.setattr(Cell, "_load", load)
    return seconds


def test_the_cell_that_was_chosen_last_is_shown_whatever_loads_longer(place, visit, loading):
    from convscope.studio.cell import Cell
    from convscope.studio.sources import Sources

    loading.update({"1": 0.2, "3": 0.1})

    async def shown() -> None:
        cell = Cell(place, Sources(), place.run("old"), ui.element("div"))
        await asyncio.gather(cell.draw("val", "0", "1"), cell.draw("val", "0", "2"))
        other = Cell(place, Sources(), place.run("old"), ui.element("div"))
        drawing = asyncio.ensure_future(other.draw("val", "0", "3"))
        await asyncio.sleep(0)
        other.clear()
        await drawing

    async def last(user) -> None:
        await user.should_see("0, predicted as 2", retries=10)
        await user.should_not_see("0, predicted as 1")
        await user.should_not_see("0, predicted as 3")

    visit(shown, last)


def test_similar_images_of_each_cell_are_a_picture_of_its_own(place, visit, loading):
    from convscope.studio.cell import Cell
    from convscope.studio.sources import Sources

    cells = []

    def shown() -> None:
        cells.append(Cell(place, Sources(), place.run("old"), ui.element("div")))

    async def asked(user) -> None:
        for predicted in "12":
            await cells[0].draw("val", "0", predicted)
            user.find("Beside the most similar training images").click()
        first, second = (words[words.index("--out") + 1] for words in place.begun)
        assert first != second

    visit(shown, asked)


def test_a_job_at_work_is_kept_up_to_date_without_drawing_its_button_anew(
    place, visit, monkeypatch
):
    from convscope.studio import watch

    monkeypatch.setattr(watch, "_LOOK_S", 0.1)
    job = job_of(place, "train", "train")
    (job.path / "ended.json").unlink()
    job.write_start()
    status = {"is": "running"}
    monkeypatch.setattr(Job, "status", property(lambda _: status["is"]))

    def at(done: int) -> None:
        going = {"label": "Reading", "done": done, "total": 4, "unit": "images", "seconds": 1.0}
        job.progress_file.write_text(json.dumps(going))

    at(1)

    async def watched(user) -> None:
        (before,) = user.find(kind=ui.button, content="Stop").elements
        await user.should_see("Reading: 1 of 4 images")
        at(3)
        await user.should_see("Reading: 3 of 4 images", retries=30)
        (after,) = user.find(kind=ui.button, content="Stop").elements
        assert after is before
        user.find(kind=ui.button, content="Stop").click()
        assert job.stop_file.exists()
        await user.should_see("stopping")
        await user.should_not_see(kind=ui.button, content="Stop")
        status["is"] = "failed"
        job.log_file.write_text("error: so it is\n")
        await user.should_see("so it is", retries=30)
        await user.should_not_see("Reading")

    visit(lambda: watch.job_view(job), watched)


def test_answers_of_a_run_that_was_trained_since_are_called_old(place, photos, visit):
    from convscope.studio import use
    from convscope.studio.sources import Sources

    run = place.run("old")
    said = {"image": str(photos / "cats" / "0.png"), "class": "cat", "probs": {"cat": 1.0}}
    about = {"run": "old", "folder": str(photos)}
    job_of(place, "predict", "predict", about=about, output=json.dumps({"predictions": [said]}))

    def page() -> None:
        use._answers(place, Sources(), run)

    async def current(user) -> None:
        await user.should_see("cat 100.0 %")
        await user.should_not_see("The run has changed since")

    async def old(user) -> None:
        await user.should_see("The run has changed since")

    before = time.time() - 60
    for file in (run.results_file, run.metrics_file, run.predictions_file):
        os.utime(file, (before, before))
    visit(page, current)
    os.utime(run.metrics_file, (before + 120, before + 120))
    visit(page, old)


def test_of_very_many_answers_the_first_are_drawn_and_a_command_has_all(place, photos, visit):
    from convscope.studio import use
    from convscope.studio.sources import Sources

    def page(n: int) -> None:
        said = [{"image": f"{i}.png", "class": "cat", "probs": {"cat": 1.0}} for i in range(n)]
        use._draw(Sources(), photos, {"predictions": said}, Path("runs/old"))

    async def few(user) -> None:
        assert len(user.find("cat 100.0 %").elements) == 60
        await user.should_not_see("more")

    async def many(user) -> None:
        assert len(user.find("cat 100.0 %").elements) == 60
        await user.should_see("and 4,940 more")
        shown = [each.content for each in user.find(kind=ui.html).elements]
        assert f"convscope predict runs/old {photos} --out answers.csv" in shown

    visit(lambda: page(60), few)
    visit(lambda: page(5000), many)


def test_what_is_open_beside_a_training_stays_open_while_its_curves_grow(place, visit, monkeypatch):
    from convscope.studio import train

    run = place.run("old")
    run.samples_picture.write_bytes(b"")
    job = job_of(place, "train", "train", run=run.path)
    active = [True]
    monkeypatch.setattr(train, "_LOOK_S", 0.1)
    monkeypatch.setattr(Job, "is_active", property(lambda _: active[0]))

    async def watched(user) -> None:
        await user.should_see("Training images", retries=30)
        (before,) = user.find(kind=ui.expansion).elements
        os.utime(run.results_file, (1, 1))
        await asyncio.sleep(0.3)
        active[0] = False
        await user.should_see("Open the run", retries=30)
        (after,) = user.find(kind=ui.expansion).elements
        assert after is before

    visit(lambda: train._watched(job, run.path), watched)
