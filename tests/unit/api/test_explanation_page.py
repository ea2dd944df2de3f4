"""What the page of an explanation says of a class, whether it was the answer or not."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convscope.api.explanation_page import explanation_page
from convscope.explain.explanation import Explanation
from convscope.explain.pictures import overlaid
from convscope.explain.words import LEAST_LOSS
from convscope.report.page import Page, Picture, Table, write_page
from convscope.types import ImagePrediction


@pytest.fixture
def explanation() -> Explanation:
    return Explanation(
        prediction=ImagePrediction(Path("photos/0500.png"), {"dark": 0.98, "stripes": 0.02}),
        class_name="stripes",
        image=np.zeros((8, 8, 3), np.uint8),
        layer="conv2",
        gradcam=np.eye(4, dtype=np.float32),
        occlusion=np.zeros((4, 4), np.float32),
        steps=(),
        filters=("conv1", np.ones((2, 3, 3, 3), np.float32)),
        page=Path("0500.html"),
    )


def evidence(page: Page) -> tuple[str, list[str]]:
    section = page.sections[1]
    captions = [block.caption for block in section.blocks if isinstance(block, Picture)]
    return section.heading, captions


def test_the_evidence_is_for_the_class_and_the_title_names_the_image(explanation):
    page = explanation_page(explanation, "run")
    heading, captions = evidence(page)
    assert heading == "Evidence for stripes"
    assert page.title == "0500.png, explained by run"
    assert captions[0].startswith("Evidence for stripes lies ")


def test_a_name_that_is_not_utf8_can_be_written(explanation, tmp_path):
    named = ImagePrediction(Path(os.fsdecode(b"caf\xe9.png")), {"dark": 0.98, "stripes": 0.02})
    page = explanation_page(replace(explanation, prediction=named), "run")
    write_page(page, tmp_path / "page.html")
    assert r"caf\udce9.png, explained by run" in (tmp_path / "page.html").read_text("utf-8")


def test_the_headline_is_as_sure_as_the_table(explanation):
    page = explanation_page(explanation, "run")
    assert page.verdict == "Classified as dark with 98.0% confidence."
    sure = replace(explanation.prediction, probs={"dark": 0.9953, "stripes": 0.0047})
    page = explanation_page(replace(explanation, prediction=sure), "run")
    assert page.verdict == "Classified as dark with 99.5% confidence."
    (table,) = (block for block in page.sections[0].blocks if isinstance(block, Table))
    assert table.rows[0] == ["dark", "99.5%"]


def test_heat_of_a_loss_that_says_nothing_is_faint():
    image, lost = np.full((8, 8, 3), 90, np.uint8), np.zeros((4, 4), np.float32)
    lost[0, 0] = 0.003
    faint, full = (overlaid(image, lost, least=least) for least in (LEAST_LOSS, 0.0))
    change = [int(np.abs(each.astype(int) - 90).max()) for each in (faint, full)]
    assert 0 < change[0] < 30
    assert change[1] > 100


def test_a_class_that_is_not_the_answer_does_not_stay_it(explanation):
    _, (_, covered) = evidence(explanation_page(explanation, "run"))
    assert covered == "Covering any one part costs stripes less than 1 point of probability."


def test_an_empty_map_of_one_layer_does_not_exclude_other_evidence(explanation):
    lost = np.zeros((4, 4), np.float32)
    lost[0, 0] = 0.3
    blank = replace(explanation, gradcam=np.zeros((4, 4), np.float32), occlusion=lost)
    _, captions = evidence(explanation_page(blank, "run"))
    assert captions == [
        "Grad-CAM finds no evidence for stripes at this layer.",
        "Covering a part in the upper left costs stripes up to 30 points of probability.",
    ]
