"""The pages of a run, a comparison and a ladder, in a real browser."""

import html.parser
import re
import shutil
from pathlib import Path

import pytest

import convscope
from convscope.classifier.classify import at_temperature
from convscope.classifier.keras_model import spec_of
from convscope.errors import RunError
from convscope.evaluation.predictions import read_predictions
from convscope.progress import Progress
from convscope.report.page import (
    TEMPLATES,
    Bar,
    Bars,
    Beside,
    Box,
    Code,
    Command,
    Heading,
    Link,
    Page,
    Points,
    Section,
    Table,
    Text,
    write_page,
)
from convscope.run import Run
from convscope.studies.comparison.comparison import Arm, Comparison, Trial, pairs_of
from convscope.studies.comparison.page import comparison_page
from convscope.studies.ladder.page import ladder_page
from convscope.studies.ladder.rungs import Ladder, Rung
from convscope.wording import sureness


@pytest.fixture(scope="module")
def reported(digits_run, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(digits_run, out)
    page = convscope.report(out, progress=Progress())
    assert page == out / "report.html"
    return Run(out)


@pytest.fixture(scope="module")
def pages(reported, tmp_path_factory) -> dict[str, Path]:
    import numpy as np

    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(3)
    answers = [
        (name, {83 + k: rng.random(500) < accuracy for k in range(3)})
        for name, accuracy in (("mobilenet_v2 tutorial-transfer", 0.4), ("vgg16 probe", 0.8))
    ]
    arms = tuple(
        Arm(
            name,
            *name.split(" "),
            tuple(Trial("r", s, test_accuracy=float(a.mean())) for s, a in right.items()),
        )
        for name, right in answers
    )
    comparison = Comparison(folder, "cifar10", 500, arms, pairs_of(answers))
    curves = {name: [[0.2, 0.4, 0.5]] * 3 for name, _ in answers}
    write_page(comparison_page(comparison, curves), folder / "comparison.html")
    rungs = (
        Rung(1, "as the tutorial", "32 px", "the start", 32, "r", 0.35, None, 0.35, 10.0, 5.0, 9),
        Rung(2, "160 px", "instead of 32 px", "160 px", 160, "r", 0.85, 0.5, 0.85, 99.0, 5.0, 9),
        Rung(3, "better head", "searched", "a head", 160, "r", failure="the loss is nan"),
    )
    ladder = Ladder(folder, "mobilenet_v2 on cifar10, seed 83", 10_000, rungs)
    write_page(ladder_page(ladder), folder / "ladder.html")
    return {
        "run": reported.report_page,
        "comparison": folder / "comparison.html",
        "ladder": folder / "ladder.html",
    }


class Texts(html.parser.HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.alts = "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.alts.append(dict(attrs)["alt"])


def test_the_page_of_a_run_says_what_it_reached_and_where_it_errs(reported):
    seen = Texts(reported.report_page)
    test = reported.metrics["test"]
    assert f"{test['accuracy']:.1%} accuracy on 360 test images." in seen.text
    low, high = test["accuracy_interval_95"]
    assert f"{low:.1%} to {high:.1%}" in seen.text
    assert re.search(r"Most often \d is predicted as \d: \d+ of 3\d\.", seen.text)
    assert "points on average" in seen.text
    assert "optimizer.learning_rate" in seen.text
    assert len(seen.alts) == 5
    assert all(len(alt) > 40 for alt in seen.alts)


def test_the_hardest_images_have_the_confidence_of_the_answers(reported):
    said = read_predictions(reported.predictions_file)[0]["test"]
    temperature = spec_of(reported, "last").temperature
    assert abs(temperature - 1) > 0.01
    probs = dict(zip(said.ids, at_temperature(said.probs, temperature), strict=True))
    seen = convscope.gallery(reported, split="test", n=5, progress=Progress())
    for each in seen:
        assert each.prob == pytest.approx(probs[each.image_id].max())
    labels = [each.prob_label for each in seen]
    assert labels == sorted(labels)
    wrong = next(each for each in seen if each.answer != each.class_name)
    said_of_it = (
        f"a {wrong.class_name}, predicted as {wrong.answer} with {sureness(wrong.prob)} confidence"
    )
    assert said_of_it in Texts(reported.report_page).text


def test_all_that_it_holds_is_known_to_be_of_a_run(reported):
    assert reported.foreign_names() == set()


def test_the_card_says_what_it_is_for_and_where_it_does_not_do(reported):
    card = reported.card_file.read_text(encoding="utf-8")
    for heading in ("Intended use", "Data", "Accuracy", "Limits", "Settings"):
        assert f"\n## {heading}\n" in card
    assert "| train | 1,149 |" in card
    assert "It knows these classes only" in card
    low, high = reported.metrics["test"]["accuracy_interval_95"]
    assert f"The interval, {low:.1%} to {high:.1%}, is for" in card
    assert "convscope predict" in card
    assert f"convscope predict {reported.path} IMAGE..." in card  # not below runs/


def test_a_run_that_was_not_judged_has_no_page_yet(digits_run, tmp_path):
    shutil.copytree(digits_run, tmp_path / "run")
    (tmp_path / "run/metrics.json").unlink()
    with pytest.raises(RunError, match="has no metrics yet; run: convscope evaluate"):
        convscope.report(tmp_path / "run", progress=Progress())
    assert not (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize("kind", ["run", "comparison", "ladder"])
def test_a_page_forbids_browsers_whatever_is_not_in_it(kind, pages):
    text = pages[kind].read_text(encoding="utf-8")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', text)
    # No script, frame, form or font; pictures that are in the page itself.
    assert policy[1] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    # A policy counts from where it stands on.
    before = text[: policy.start()]
    assert set(re.findall(r"<([a-z]+)", before)) == {"html", "head", "meta"}


@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("kind", ["run", "comparison", "ladder"])
def test_a_browser_shows_it_whole_on_a_phone_and_on_a_desk(kind, width, pages, open_page):
    with open_page(viewport={"width": width, "height": 800}) as (page, complaints, asked):
        page.goto(pages[kind].as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert widths
        assert min(widths) > 0
        assert page.get_by_role("heading", level=1).inner_text()
        for table in page.get_by_role("region").all():
            assert table.get_attribute("aria-label")
        assert complaints == []
        assert [url for url in asked if not url.startswith("data:")] == [pages[kind].as_uri()]
        assert page.pdf().startswith(b"%PDF")
        # On A4 nothing is cut off, and what is folded on a screen is printed.
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 700, "height": 1000})
        assert page.evaluate("document.documentElement.scrollWidth") <= 700
        rows = "[...document.querySelectorAll('tr')]"
        assert page.evaluate(f"{rows}.every(row => row.checkVisibility())")


@pytest.mark.parametrize("width", [390, 1100])
def test_addresses_and_paths_of_any_length_stay_on_the_page(width, tmp_path, open_page):
    long = "https://example.org/" + "folder/" * 5 + "n" * 300
    blocks = [
        Text(long),
        Text(long, small=True),
        Points([(long, long)]),
        Heading(long),
        Table([long, "words"], [[long, long]], long),
        Command(long),
        Link("a.html", long),
        Code(long, long),
        Bars([Bar(long, 0.5, "50 %")], long, long),
        Beside([Text(long), Code(long, long)]),
        Box(long, [Text(long), Command(long)]),
    ]
    sections = [Section(long, blocks), Section(long, blocks, folded=True)]
    page = Page(long, long, long, sections, caution=long, contents=long, footer=long)
    write_page(page, tmp_path / "page.html")
    with open_page(viewport={"width": width, "height": 800}) as (shown, _, _):
        shown.goto((tmp_path / "page.html").as_uri())
        shown.locator("summary").click()
        assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_its_colours_are_told_apart_by_everyone():
    """WCAG 2.1: text has a contrast of 4.5 at least."""
    style = (TEMPLATES / "page.html").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6});", style))

    def light(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ink in ("ink", "soft", "accent"):
        for paper in ("paper", "tint"):
            dark, bright = sorted((light(colours[ink]), light(colours[paper])))
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)
