"""A ladder of real runs: killed and continued, with a rung that fails, its test images sealed."""

import csv
import dataclasses
import itertools
import json
from datetime import datetime
from pathlib import Path

import pytest
from killing import at_rename, train_until_killed
from PIL import Image

import convscope
import tiny
from convscope.errors import ConfigError, DataError, RunError, TrainingError, UnknownNameError
from convscope.models.backbones import BACKBONES
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.recipe import Recipe, resolve
from convscope.recipes import RECIPES
from convscope.registry import Entry
from convscope.run import Run
from convscope.studies.ladder.plan import RungPlan, plan_ladder
from convscope.studies.ladder.rungs import Ladder
from convscope.training import heads

# Only the last rung trains its head apart, and with this rate its loss is not finite.
TOO_FAST = {"backbone.head_learning_rate": 1e38}
CLIMB = {
    "model": "tiny",
    "data": "digits",
    "sizes": (32, 48),
    "epochs": 1,
    "weights": "random",
    "settings": {**TOO_FAST, "split.images": 400},
}
FINETUNE = 6


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Listening(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny_backbone) -> Path:
    """A ladder whose process was killed in rung 2, when its last epoch was about to count."""
    out = tmp_path_factory.mktemp("ladders") / "ladder"
    patch = f"{tiny.IN_A_PROCESS}{at_rename('results.csv', when='before', below='02-')}"
    cache = tmp_path_factory.mktemp("cache")
    train_until_killed(out, CLIMB, patch, verb="ladder", CONVSCOPE_CACHE=str(cache))
    return out


@pytest.fixture(scope="module")
def climbed(killed) -> dict:
    """The same ladder, continued; with what was known of it before."""
    runs = [Run.open(folder) for folder in sorted((killed / "rungs").iterdir())]
    before = {
        "names": [run.name for run in runs],
        "status": [run.status for run in runs],
        "openings": [run.state.get("test_openings", []) for run in runs],
        "metrics": [sorted(run.metrics) for run in runs[:1]],
        "snapshots": [run.snapshot_file.stat().st_mtime_ns for run in runs],
        "table": table(killed / "ladder.csv"),
    }
    listening = Listening()
    seen: list[Ladder] = []
    with pytest.MonkeyPatch.context() as patch:
        # One head to choose from: most of the time would go into trying the others.
        patch.setattr(heads, "CANDIDATES", heads.CANDIDATES[:1])
        ladder = convscope.ladder(out=killed, progress=listening, after_rung=seen.append, **CLIMB)
    return {"before": before, "ladder": ladder, "said": listening.lines, "seen": seen}


def test_a_kill_leaves_finished_rungs_and_nothing_half_written(climbed):
    before = climbed["before"]
    assert before["names"] == ["01-as-the-tutorial", "02-own-scaling"]
    assert before["status"] == ["finished", "killed"]
    assert before["openings"] == [[], []]
    assert before["metrics"] == [["rejection", "val", "weights"]]
    first, second = before["table"][:2]
    assert float(first["val_accuracy"]) > 0
    assert (first["test_accuracy"], second["val_accuracy"]) == ("", "")
    left = [path for path in climbed["ladder"].path.rglob("*") if ".part" in path.name]
    assert [path for path in left if "02-own" not in str(path)] == []


def test_what_was_trained_is_not_trained_again(climbed):
    ladder: Ladder = climbed["ladder"]
    snapshots = [
        Run(ladder.path / rung.run).snapshot_file.stat().st_mtime_ns for rung in ladder.rungs[:2]
    ]
    assert snapshots == climbed["before"]["snapshots"]
    started = [line for line in climbed["said"] if line.startswith("Rung ") and " of 6" in line]
    assert [line.split(":")[0] for line in started] == [f"Rung {n} of 6" for n in range(2, 7)]
    assert "Resuming after epoch 1" in climbed["said"]
    assert [rung.name for rung in ladder.rungs] == [
        *("as the tutorial", "own scaling", "48 px", "standardised features", "better head"),
        "last stage fine-tuned",
    ]
    # As it grew: a rung at a time.
    known = [[rung.val_accuracy is not None for rung in each.rungs] for each in climbed["seen"]]
    assert [sum(each) for each in known] == [2, 3, 4, 5, 5]


def test_the_test_images_stay_sealed_until_every_rung_is_trained(climbed):
    ladder: Ladder = climbed["ladder"]
    runs = [Run.open(ladder.path / rung.run) for rung in ladder.rungs[: FINETUNE - 1]]
    last_trained = max(run.weights("last").stat().st_mtime for run in runs)
    for run in runs:
        (opening,) = run.state["test_openings"]
        assert opening["by"] == "ladder"
        # The log tells whole seconds.
        assert datetime.fromisoformat(opening["at"]).timestamp() >= int(last_trained)
    assert all(rung.test_accuracy is None for so_far in climbed["seen"] for rung in so_far.rungs)
    for rung, run in zip(ladder.rungs, runs, strict=False):
        assert rung.test_accuracy == run.metrics["test"]["accuracy"]
        assert rung.val_accuracy == run.metrics["val"]["accuracy"]


def test_a_rung_that_fails_is_told_and_the_others_go_on(climbed):
    ladder: Ladder = climbed["ladder"]
    *trained, failed = ladder.rungs
    assert all(rung.failure is None for rung in trained)
    assert "the loss is nan" in failed.failure
    assert (failed.val_accuracy, failed.gain, failed.test_accuracy) == (None, None, None)
    assert any(line.startswith(f"Rung {FINETUNE} failed: ") for line in climbed["said"])
    assert Run.open(ladder.path / failed.run).state.get("test_openings", []) == []
    assert "the loss is nan" in table(ladder.table_file)[-1]["failure"]


def test_each_rung_is_its_recipe_with_what_is_not_mended_yet(climbed):
    ladder: Ladder = climbed["ladder"]
    configs = [run_config(Run(ladder.path / rung.run)) for rung in ladder.rungs]
    assert [config.image_size for config in configs] == [32, 32, 48, 48, 48, 48]
    assert [config.backbone.scaling for config in configs] == ["unit", *["own"] * 5]
    assert [config.head.standardise for config in configs] == [False] * 3 + [True] * 3
    for number, name in ((1, "tutorial-transfer"), (5, "probe"), (6, "finetune")):
        given = {"image_size": 48 if number > 1 else 32, "epochs": 1, "augment.flip": False}
        if number == FINETUNE:  # before it, there is nothing to fine-tune
            given |= TOO_FAST
        if number == 1:
            given["head.pooling"] = "avg"
        recipe = resolve(RECIPES.get(name)(), given)
        for key in Recipe.model_fields:
            assert getattr(configs[number - 1], key) == getattr(recipe, key), (number, key)


@pytest.mark.parametrize(
    "name", [name for name in BACKBONES.names() if not BACKBONES.get(name).parts]
)
def test_every_single_backbone_has_a_last_stage_to_fine_tune(name):
    backbone = BACKBONES.get(name)
    plan = {"seed": 83, "sizes": (64, 96, 160), "of_data": {}}
    steps = plan_ladder(backbone, settings={}, **plan)
    assert steps[0].config.image_size == max(32, backbone.smallest_size)
    assert steps[-1].rung.name == "last stage fine-tuned"
    cut = backbone.cut_at(steps[-1].config.backbone.cut)
    assert list(backbone.stages).index(cut) == len(backbone.stages) - 2
    # In the picture there is room for so many characters.
    assert max(len(step.rung.change) for step in steps) <= 52
    whole = plan_ladder(backbone, settings={"backbone.cut": "start"}, **plan)
    assert whole[-1].rung.name == "whole backbone fine-tuned"
    assert whole[-1].config.backbone.cut == "start"


def test_networks_side_by_side_are_fine_tuned_whole():
    pairs = [backbone for backbone in map(BACKBONES.get, BACKBONES.names()) if backbone.parts]
    assert pairs
    for backbone in pairs:
        steps = plan_ladder(backbone, seed=83, sizes=(64, 96, 160), of_data={}, settings={})
        assert steps[-1].rung.name == "whole backbone fine-tuned"
        assert backbone.cut_at(steps[-1].config.backbone.cut) == "start"


def test_a_setting_is_left_away_in_rungs_where_it_has_no_effect_and_refused_if_that_is_all():
    def steps(settings: dict) -> list[RungPlan]:
        backbone = BACKBONES.get("mobilenet_v2")
        return plan_ladder(backbone, seed=83, sizes=(96,), of_data={}, settings=settings)

    rungs = steps({"backbone.views": 3, "optimizer.layer_decay": 0.9, "batch_size": 64})
    assert [step.config.backbone.views for step in rungs] == [1, 1, 1, 1, 1, 3]
    assert [step.config.optimizer.layer_decay for step in rungs] == [1, 1, 1, 1, 1, 0.9]
    assert {step.config.batch_size for step in rungs} == {64}
    assert "backbone.views" not in rungs[0].settings
    with pytest.raises(ConfigError, match=r"^optimizer\.momentum 0\.9 has no effect here"):
        steps({"optimizer.momentum": 0.9})
    with pytest.raises(ConfigError, match=r"^optimizer\.name muon"):
        steps({"optimizer.name": "muon"})


def test_gains_costs_and_files_agree(climbed):
    ladder: Ladder = climbed["ladder"]
    trained = ladder.rungs[:-1]
    assert trained[0].gain is None
    for below, rung in itertools.pairwise(trained):
        assert rung.gain == pytest.approx(rung.val_accuracy - below.val_accuracy, abs=1e-6)
    for rung in trained:
        run = Run(ladder.path / rung.run)
        rows = table(run.results_file)
        tried = table(run.heads_file) if run.heads_file.exists() else []
        assert bool(tried) == (rung.number in (5, 6))
        spent = sum(float(row["seconds"]) for row in [*rows, *tried])
        assert rung.train_seconds == pytest.approx(spent, abs=1e-3)
        assert rung.feature_seconds == run.state["feature_seconds"]
        assert rung.seconds == pytest.approx(spent + rung.feature_seconds, abs=1e-3)
    # The tutorial's head at 32 px: five convolutions from 16x16 on, then three dense layers.
    n = tiny.CHANNELS
    convolutions = 9 * n * (3 * 16**2 + n * (8**2 + 4**2 + 2**2 + 1))
    assert trained[0].multiply_adds == convolutions + n * 128 + 128 * 64 + 64 * 10
    assert trained[2].multiply_adds > 2 * trained[1].multiply_adds
    state = json.loads(ladder.state_file.read_text())
    assert [entry["test_accuracy"] for entry in state["rungs"]] == [
        rung.test_accuracy for rung in ladder.rungs
    ]
    assert state["conclusion"] == ladder.conclusion
    with Image.open(ladder.picture) as picture:
        assert picture.size[0] == 1080


def test_a_finished_ladder_is_only_read(climbed):
    ladder: Ladder = climbed["ladder"]
    listening = Listening()
    again = convscope.ladder(out=ladder.path, progress=listening, **CLIMB)
    assert again == ladder
    assert [line for line in listening.lines if "Rung" in line] == []
    assert len(Run(ladder.path / ladder.rungs[0].run).state["test_openings"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 84}, "holds a ladder with seed 83, not 84; repeat its settings"),
        ({"sizes": (64,)}, r"holds a ladder with sizes \[32, 48\], not \[64\]"),
        ({"epochs": 2}, "holds a ladder with epochs 1, not 2"),
        ({"settings": {}}, r"with backbone\.head_learning_rate 1e\+38, not None"),
    ],
)
def test_another_ladder_is_not_continued(climbed, change, message):
    ladder: Ladder = climbed["ladder"]
    before = ladder.state_file.read_bytes()
    with pytest.raises(RunError, match=message):
        convscope.ladder(out=ladder.path, progress=Progress(), **{**CLIMB, **change})
    assert ladder.state_file.read_bytes() == before


def test_a_recipe_that_has_changed_is_noticed(climbed, monkeypatch):
    entry = RECIPES.entry("probe")
    other = entry.value().model_copy(update={"batch_size": 7})
    monkeypatch.setitem(RECIPES._entries, "probe", type(entry)("probe", lambda: other, entry.info))
    with pytest.raises(RunError, match="a different version of the recipe of rung 'better head'"):
        convscope.ladder(out=climbed["ladder"].path, progress=Progress(), **CLIMB)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 2}'])
def test_a_damaged_ladder_is_refused(tmp_path, content):
    (tmp_path / "ladder.json").write_text(content)
    with pytest.raises(RunError, match=r"ladder.json (is damaged|was written by another version)"):
        convscope.ladder(out=tmp_path, progress=Progress(), **CLIMB)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "cnn-functional"}, ConfigError, "a ladder needs a pretrained backbone: .*tiny"),
        ({"model": "tinny"}, UnknownNameError, "did you mean 'tiny'"),
        ({"sizes": (5_000,)}, ConfigError, "image_size: input should be less than"),
        (
            {"settings": {"image_size": 9}},
            ConfigError,
            "'image_size' cannot be given with --set here",
        ),
        ({"settings": {"momentum": 0}}, UnknownNameError, "did you mean 'optimizer.momentum'"),
        ({"weights": "none.h5"}, DataError, r"none\.h5"),
        ({"data": "digit"}, UnknownNameError, "did you mean 'digits'"),
    ],
)
def test_a_mistake_makes_no_folder(tmp_path, change, error, message):
    with pytest.raises((error, ConfigError), match=message):
        convscope.ladder(out=tmp_path / "out", progress=Progress(), **{**CLIMB, **change})
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_where_no_rung_can_be_trained_that_is_an_error(tmp_path, monkeypatch):
    # Of a folder of images, and refused only when a network is built.
    for index in range(30):
        name = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (index, 0, 200 * (index % 2))).save(name)

    def refuse(shape):
        raise ConfigError("tiny cannot be built")

    broken = dataclasses.replace(BACKBONES.get("tiny"), build=refuse)
    monkeypatch.setitem(BACKBONES._entries, "tiny", Entry("tiny", broken))
    change = {"data": tmp_path / "photos", "settings": TOO_FAST}
    out = tmp_path / "out"
    with pytest.raises(TrainingError, match="no rung could be trained: tiny cannot be built"):
        convscope.ladder(out=out, progress=Progress(), **{**CLIMB, **change})
    assert not (out / "rungs").exists()
    # It is tried anew, not read from the record.
    listening = Listening()
    with pytest.raises(TrainingError, match="no rung could be trained"):
        convscope.ladder(out=out, progress=listening, **{**CLIMB, **change})
    assert any(line.startswith("Rung 1 failed") for line in listening.lines)
    (out / "ladder.json").rename(out / "other.json")
    with pytest.raises(RunError, match="is not empty and holds no ladder"):
        convscope.ladder(out=out, progress=Progress(), **CLIMB)
