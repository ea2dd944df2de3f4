"""The tutorial, trained on digits with a tiny backbone: stopped, resumed, in another language."""

import json

import pytest

import convscope
from convscope.errors import RunError
from convscope.models.backbones import BACKBONES
from convscope.progress import Progress
from convscope.studies.tutorial import study
from convscope.studies.tutorial.plan import BackbonePlan, Plan
from convscope.training import heads

TINY = Plan(
    quick=True,
    images=400,
    epochs=1,
    n_seeds=2,
    backbones=(BackbonePlan("tiny", (48,), until="48 px"),),
)


class Listening(Progress):
    def __init__(self, stop_at: str = "") -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def say(self, text: str) -> None:
        self.lines.append(text)
        if self.stop_at and self.stop_at in text:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True, scope="module")
def tiny():
    """A backbone of five convolutions."""
    import dataclasses

    import keras

    def build(shape):
        x = image = keras.Input(shape)
        for stage in range(1, 6):
            x = keras.layers.Conv2D(
                8, 3, strides=2, padding="same", activation="relu", name=f"conv{stage}"
            )(x)
        return keras.Model(image, x, name="tiny")

    stages = {f"stage{n}": f"conv{n}" for n in range(1, 6)}
    other = BACKBONES.get("mobilenet_v2")
    made = dataclasses.replace(other, name="tiny", build=build, smallest_size=32, stages=stages)
    BACKBONES.register("tiny")(made)
    yield
    del BACKBONES._entries["tiny"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tutorial that was stopped before its second run and at its ladder, then finished."""
    out = tmp_path_factory.mktemp("tutorial") / "here"
    said: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "QUICK", TINY)
        patch.setattr(heads, "CANDIDATES", heads.CANDIDATES[:1])
        patch.setattr("convscope.studies.tutorial.backbones.BACKBONE_NAMES", {})
        for stop_at in ("Step 2 of", "Rung 2 of", ""):
            listening = Listening(stop_at)
            said.append(listening.lines)
            given = {"quick": True, "weights": "random", "out": out, "progress": listening}
            if stop_at:
                with pytest.raises(KeyboardInterrupt):
                    convscope.tutorial("digits", **given)
            else:
                done = convscope.tutorial("digits", **given)
        yield {"done": done, "said": said, "given": given}


@pytest.mark.slow
def test_what_was_finished_is_not_trained_again(finished):
    first, second, third = finished["said"]
    assert any("Step 1 of 6" in line for line in first)
    # Numbered as before; the finished step is passed over.
    assert not any("Step 1 of 6" in line for line in second)
    assert any("Step 2 of 6" in line and "left in all" in line for line in second)
    assert not any("Step 4 of 6" in line for line in third)
    assert any("Rung 2 of 3" in line for line in third)


@pytest.mark.slow
def test_the_styles_are_one_network_and_the_ladder_is_judged(finished):
    done = finished["done"]
    assert done.failures == {}
    assert all(pair.found.identical for pair in done.comparison.pairs)
    assert [step.seconds is not None for step in done.steps] == [True] * 6
    assert all(rung.test_accuracy is not None for rung in done.ladders["tiny"].rungs)
    page = done.page.read_text(encoding="utf-8")
    assert "Three styles, one network" in page
    for name in ("sample", "sample-explorer"):
        assert f'href="./inside/{name}.html"' in page
        assert (done.path / "inside" / f"{name}.html").exists()


@pytest.mark.slow
def test_the_page_in_another_language_trains_nothing(finished):
    listening = Listening("Step ")
    given = {**finished["given"], "progress": listening, "language": "ko"}
    convscope.tutorial("digits", **given)
    assert "세 가지 작성 방식" in finished["done"].page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_another_tutorial_in_its_folder_is_refused(finished):
    with pytest.raises(RunError, match=r"holds a tutorial with data 'digits', not 'cifar10'|plan"):
        convscope.tutorial("digits", out=finished["done"].path, progress=Progress())
    state = json.loads((finished["done"].path / "tutorial.json").read_text())
    assert state["format"] == study.TUTORIAL.version
