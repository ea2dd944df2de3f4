"""A comparison of real runs: killed and continued, with an arm that diverges."""

import json
import re
import shutil
from pathlib import Path

import pytest
from killing import at_rename, train_until_killed
from PIL import Image

import convscope
from convscope.errors import ConfigError, DataError, RunError, UnknownNameError
from convscope.ledger import Ledger
from convscope.planning.plan import run_config
from convscope.planning.settle import Request, settle_names
from convscope.progress import Progress
from convscope.recipe import HeadSettings, RunConfig
from convscope.run import Run
from convscope.studies.comparison.arms import names_of, plan_arms
from convscope.studies.comparison.comparison import Comparison
from convscope.studies.executor import LocalExecutor

# With this decay Adam's small steps set weights to zero, and those of the recipe fast, which are
# larger, blow them up until the loss is not finite.
STUDY = {
    "models": ["fast-small"],
    "recipes": ["tutorial", "fast"],
    "data": "digits",
    "seeds": 2,
    "epochs": 2,
    "settings": {"optimizer.weight_decay": 1000.0, "precision": "float32"},
}


class Listening(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


# In one process: a process for each run would take longer than the training.
HERE = LocalExecutor(own_process=False)
THERE = """
from convscope.studies import executor
from convscope.studies.comparison import study
study.LocalExecutor = lambda: executor.LocalExecutor(own_process=False)
"""


@pytest.fixture(scope="module")
def continued(tmp_path_factory) -> dict:
    """A comparison that was killed when its second run was about to be written down, continued."""
    out = tmp_path_factory.mktemp("comparisons") / "study"
    patch = THERE + at_rename("comparison.json", nth=3, when="before")
    train_until_killed(out, STUDY, patch, verb="compare")
    state = json.loads((out / "comparison.json").read_text())
    runs = [Run(folder) for folder in sorted((out / "runs").iterdir())]
    before = {
        "known": [t["run"] for a in state["arms"] for t in a["trials"] if t["val_accuracy"]],
        "status": {run.name: run.status for run in runs},
        "openings": [run.state.get("test_openings") for run in runs],
        "weights": (out / "runs/tutorial-seed83/weights/last.keras").stat().st_mtime_ns,
    }
    listening = Listening()
    done = convscope.compare(out=out, executor=HERE, progress=listening, **STUDY)
    return {"before": before, "done": done, "said": listening.lines, "out": out}


def trials(done: Comparison, name: str) -> tuple:
    return next(arm for arm in done.arms if arm.name == name).trials


def test_a_kill_loses_nothing_that_was_trained(continued):
    before = continued["before"]
    assert before["known"] == ["runs/tutorial-seed83"]
    assert before["status"] == {"fast-seed83": "failed", "tutorial-seed83": "finished"}
    assert before["openings"] == [None, None]
    now = (continued["out"] / "runs/tutorial-seed83/weights/last.keras").stat().st_mtime_ns
    assert now == before["weights"]
    assert "Run 1 of 3: fast, seed 83" in continued["said"]


def test_a_run_that_diverges_is_told_and_the_others_stand(continued):
    done: Comparison = continued["done"]
    for trial in trials(done, "fast"):
        assert re.search("loss is (nan|inf) in epoch", trial.failure)
        assert trial.final
        assert trial.test_accuracy is None
    for trial in trials(done, "tutorial"):
        assert trial.failure is None
        assert trial.val_accuracy > 0
        assert trial.test_accuracy is None
        assert trial.train_seconds > 0
    # Known of the first network that a process trained.
    assert trials(done, "tutorial")[0].peak_memory_mb > 100
    assert done.pairs == ()
    page = done.page.read_text(encoding="utf-8")
    assert "Failed runs" in page
    assert re.search("loss is (nan|inf) in epoch", page)


def test_ways_are_compared_on_validation_images_and_the_test_images_stay_sealed(continued):
    done: Comparison = continued["done"]
    assert done.part == "val"
    for trial in trials(done, "tutorial"):
        run = Run(done.path / trial.run)
        assert "test_openings" not in run.state
        assert run.metrics.keys() == {"weights", "rejection", "val"}
        assert trial.val_accuracy == run.metrics["val"]["accuracy"]
    first, second = (trial.val_accuracy for trial in trials(done, "tutorial"))
    mean = (first + second) / 2
    assert done.conclusion == (f"Only tutorial has been evaluated: {mean:.1%} validation accuracy.")
    page = done.page.read_text(encoding="utf-8")
    assert "evaluated on 288 validation images" in page
    assert "test accuracy" not in page.lower()


def test_again_it_trains_nothing_and_says_the_same(continued):
    listening = Listening()
    again = convscope.compare(out=continued["out"], progress=listening, **STUDY)
    assert [arm.trials for arm in again.arms] == [arm.trials for arm in continued["done"].arms]
    assert not [line for line in listening.lines if line.startswith("Run ")]
    for trial in trials(again, "tutorial"):
        assert "test_openings" not in Run(again.path / trial.run).state


def test_at_last_the_test_images_are_opened_in_one_look_for_all_runs(continued):
    listening = Listening()
    options = {"out": continued["out"], "final": True, **STUDY}
    done = convscope.compare(progress=listening, **options)
    assert not [line for line in listening.lines if line.startswith("Run ")]
    judged = [line for line in listening.lines if "evaluated for the" in line]
    assert judged == ["These 360 test images are evaluated for the first time on this machine."]
    runs = [Run(done.path / trial.run) for trial in trials(done, "tutorial")]
    openings = [run.state["test_openings"] for run in runs]
    assert [[o["by"] for o in each] for each in openings] == [["compare"], ["compare"]]
    assert [[o["times"] for o in each] for each in openings] == [[1], [1]]
    failed = [Run(done.path / trial.run).state for trial in trials(done, "fast")]
    last_trained = max(state["updated"] for state in failed)
    assert all(each[0]["at"] >= last_trained for each in openings)
    assert [t.test_accuracy for t in trials(done, "tutorial")] == [
        run.metrics["test"]["accuracy"] for run in runs
    ]
    assert done.part == "test"
    assert "test accuracy" in done.conclusion
    # Called again it opens nothing again.
    convscope.compare(progress=Progress(), **options)
    assert [run.state["test_openings"] for run in runs] == openings
    assert len({look["look"] for look in Ledger().looks}) == 1


def test_other_settings_in_the_same_folder_are_refused(continued):
    out, quiet = continued["out"], Progress()
    with pytest.raises(RunError, match="in which tutorial has epochs 2, not 11"):
        convscope.compare(out=out, progress=quiet, **{**STUDY, "epochs": 11})
    two = {"models": ["cnn-functional", "cnn-sequential"], "recipes": ["tutorial"]}
    with pytest.raises(
        RunError, match="a comparison of tutorial, fast, not of cnn-functional, cnn"
    ):
        convscope.compare(out=out, progress=quiet, **{**STUDY, **two})


def write_photos(folder: Path, side: int = 8) -> None:
    digits = convscope.load("digits", progress=Progress()).train
    for index in range(60):
        place = folder / str(digits.labels[index] % 2)
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(digits.images[index].squeeze())
        image.resize((side, side)).save(place / f"{index}.png")


def test_runs_on_the_same_photos_at_two_sizes_are_compared(tmp_path):
    write_photos(tmp_path / "photos", 40)
    settings = {"recipe": "tutorial", "epochs": 1, "precision": "float32", "test": False}

    def trained(size: int) -> Path:
        return convscope.train(
            "cnn-sequential",
            data=tmp_path / "photos",
            image_size=size,
            out=tmp_path / f"{size}",
            progress=Progress(),
            **settings,
        ).path

    small, large = trained(16), trained(20)
    # As of images in another folder, of which nobody knows whether they are the same photos.
    other = shutil.copytree(large, tmp_path / "other")
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("/photos", "/others"))
    assert run_config(Run(other)).data_path == str(tmp_path / "others")
    done = convscope.compare_runs([small, large], out=tmp_path / "study", progress=Progress())
    assert len(done.pairs) == 1
    with pytest.raises(DataError, match="not evaluated on the same validation images"):
        convscope.compare_runs([small, other], out=tmp_path / "no", progress=Progress())


@pytest.mark.slow
def test_a_comparison_whose_images_moved_goes_on_where_they_are(tmp_path, monkeypatch):
    here, there = tmp_path / "here" / "photos", tmp_path / "there" / "photos"
    write_photos(here)
    study = {
        "executor": HERE,
        **{"models": ["cnn-sequential"], "epochs": 1, "out": tmp_path / "study"},
        **{"vary": {"batch_size": [30, 20]}, "settings": {"precision": "float32"}},
    }
    convscope.compare(data=here, seeds=1, progress=Progress(), **study)
    there.parent.mkdir()
    here.rename(there)
    final = convscope.compare(data=there, seeds=1, final=True, progress=Progress(), **study)
    assert [trial.test_accuracy is None for arm in final.arms for trial in arm.trials] == [
        False
    ] * 2
    (there / "0" / "new.png").write_bytes(next((there / "1").iterdir()).read_bytes())
    with pytest.raises(RunError, match="holds a comparison on other images"):
        convscope.compare(data=there, seeds=1, progress=Progress(), **study)


@pytest.fixture(scope="module")
def existing(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    runs = []
    for model, seed, lr in (
        ("cnn-sequential", 83, 1e-3),
        ("cnn-sequential", 84, 1e-3),
        ("cnn-functional", 83, 1e-3),
        ("cnn-functional", 84, 1e-3),
        ("cnn-functional", 83, 1e-4),
    ):
        run = convscope.train(
            model,
            data="digits",
            seed=seed,
            lr=lr,
            epochs=1,
            # A third of the images: with a smaller batch at the end, each run is traced twice.
            batch_size=383,
            precision="float32",
            test=False,
            out=folder / f"{model}-{lr:g}-{seed}",
            progress=Progress(),
        )
        runs.append(run.path)
    return runs


def test_runs_that_are_there_are_grouped_by_their_settings(existing, tmp_path):
    done = convscope.compare_runs(existing[:4], out=tmp_path / "study", progress=Progress())
    assert [arm.name for arm in done.arms] == ["cnn-sequential", "cnn-functional"]
    (pair,) = done.pairs
    assert pair.found.identical  # one network in two styles
    assert pair.seeds == (2, 2)
    assert done.page.exists()
    for arm in done.arms:
        assert arm.latency_ms > 0
        assert arm.n_params == 89_930
        assert [Path(trial.run).is_absolute() for trial in arm.trials] == [True, True]


def test_what_differs_names_the_ways(existing, tmp_path):
    done = convscope.compare_runs(
        [existing[2], existing[4]], out=tmp_path / "study", progress=Progress()
    )
    slower = "learning_rate=0.0001"
    assert [arm.name for arm in done.arms] == ["cnn-functional", f"cnn-functional {slower}"]
    (pair,) = done.pairs
    assert pair.seeds == (1, 1)
    assert "not for the configurations" in done.caution


@pytest.mark.slow
def test_what_was_judged_before_is_logged_when_it_is_compared(tmp_path):
    runs = [
        convscope.train(
            "cnn-functional",
            data="digits",
            lr=lr,
            epochs=1,
            precision="float32",
            out=tmp_path / f"{lr}",
            progress=Progress(),
        )
        for lr in (1e-3, 1e-2)
    ]
    by_val = convscope.compare_runs(runs, out=tmp_path / "val", progress=Progress())
    assert by_val.part == "val"
    assert [len(run.state["test_openings"]) for run in runs] == [1, 1]
    done = convscope.compare_runs(runs, out=tmp_path / "test", final=True, progress=Progress())
    assert [[o["by"] for o in run.state["test_openings"]] for run in runs] == [
        ["train", "compare"]
    ] * 2
    assert [len(run.test_openings) for run in runs] == [1, 1], "nothing was judged again"
    kinds = [(look["by"], look["kind"]) for look in Ledger().looks]
    assert kinds == [("train", "judged")] * 2 + [("compare", "shown")] * 2
    best = max(done.arms, key=lambda arm: arm.trials[0].val_accuracy)
    assert f"Validation accuracy selects {best.name} (" in done.conclusion
    assert f"in that choice, is {best.trials[0].test_accuracy:.1%}." in done.conclusion


def named(plan: dict[str, Request]) -> list[tuple[str, RunConfig]]:
    return [(name, settle_names(request, Progress())) for name, request in plan.items()]


def test_a_model_may_have_a_recipe_of_its_own():
    def ways(models: list[str], recipes: list[str] | None = None) -> dict[str, tuple[str, str]]:
        plan = plan_arms(models, recipes, 83, "digits", None, None, {}, {})
        return {name: (config.model, config.recipe) for name, config in named(plan)}

    assert ways(["fast-small:fast", "mobilenet_v2:finetune"]) == {
        "fast-small": ("fast-small", "fast"),
        "mobilenet_v2": ("mobilenet_v2", "finetune"),
    }
    assert ways(["fast-small:fast", "fast-small"]) == {
        "fast": ("fast-small", "fast"),
        "tutorial": ("fast-small", "tutorial"),
    }
    both = ways(["vgg16", "mobilenet_v2"], ["tutorial-transfer", "probe"])
    assert list(both) == [
        *("vgg16 tutorial-transfer", "vgg16 probe"),
        *("mobilenet_v2 tutorial-transfer", "mobilenet_v2 probe"),
    ]
    with pytest.raises(UnknownNameError, match="unknown recipe 'fats'; did you mean 'fast'"):
        ways(["fast-small:fats", "fast-medium"])


def test_weights_name_a_way_only_where_a_backbone_has_several():
    plan = plan_arms(["vgg16", "resnet50"], None, 83, "digits", None, None, {}, {})
    vgg, resnet = (
        config.model_copy(update={"weights_sha256": digest * 64})
        for config, digest in zip(dict(named(plan)).values(), "ab", strict=True)
    )
    assert names_of([vgg, resnet]) == ["vgg16", "resnet50"]
    other = vgg.model_copy(update={"weights_sha256": "c" * 64})
    first, second = names_of([vgg, other])
    assert first != second


def test_what_a_recipe_has_for_one_network_alone_is_not_in_a_name():
    fast = {"data": "digits", "recipe": "fast", "precision": "float32"}
    deep, small = (
        settle_names(Request({**fast, "model": model}), Progress())
        for model in ("fast-deep", "fast-small")
    )
    assert names_of([deep, small]) == ["fast-deep", "fast-small"]


def test_values_of_settings_are_compared_in_each_combination():
    def ways(models: list[str], vary: dict, settings: dict | None = None) -> dict[str, tuple]:
        plan = plan_arms(models, None, 83, "digits", None, None, settings or {}, vary)
        return {
            name: (config.model, config.label_smoothing, config.optimizer.learning_rate)
            for name, config in named(plan)
        }

    assert ways(["cnn-functional"], {"label_smoothing": [0, 0.1]}) == {
        "label_smoothing=0": ("cnn-functional", 0, 1e-3),
        "label_smoothing=0.1": ("cnn-functional", 0.1, 1e-3),
    }
    both = ways(
        ["cnn-functional", "cnn-sequential"],
        {"label_smoothing": [0, 0.1], "optimizer.learning_rate": [1e-3, 2e-3]},
    )
    assert len(both) == 8
    assert both["cnn-sequential label_smoothing=0.1 learning_rate=0.002"] == (
        *("cnn-sequential", 0.1, 2e-3),
    )
    with pytest.raises(ConfigError, match="twice"):
        ways(["cnn-functional"], {"label_smoothing": [0.1, 0.1]})
    with pytest.raises(ConfigError, match="with --set and with --vary"):
        ways(["cnn-functional"], {"label_smoothing": [0, 0.1]}, {"label_smoothing": 0.2})
    with pytest.raises(ConfigError, match="'epochs' cannot be given with"):
        ways(["cnn-functional"], {"epochs": [1, 2]})
    with pytest.raises(UnknownNameError, match="label_smoothing"):
        ways(["cnn-functional"], {"label_smooth": [0, 0.1]})


def test_a_setting_for_some_of_the_arms_is_omitted_where_it_has_no_effect():
    def ways(settings: dict, vary: dict | None = None, second: str = "mobilenet_v2") -> list:
        models = ["cnn-functional", second]
        plan = plan_arms(models, None, 83, "digits", None, None, settings, vary or {})
        return list(dict(named(plan)).values())

    plain, backbone = ways({"head.standardise": True, "head.pooling": "flatten", "batch_size": 9})
    assert plain.head == HeadSettings()
    assert backbone.head.pooling == "flatten"
    assert (plain.batch_size, backbone.batch_size) == (9, 9)
    adam, sgd, *_ = ways({"optimizer.momentum": 0.9}, {"optimizer.name": ["adam", "sgd"]})
    assert (adam.optimizer.momentum, sgd.optimizer.momentum) == (0, 0.9)
    with pytest.raises(ConfigError, match=r"^head\.pooling flatten has no effect here"):
        ways({"head.pooling": "flatten"}, second="cnn-sequential")
    # Its values would be ways of training that do not differ.
    with pytest.raises(ConfigError, match=r"^optimizer\.momentum 0\.9 has no effect here"):
        ways({}, {"optimizer.momentum": [0, 0.9]})


def test_what_cannot_be_compared_is_refused_in_a_line(existing, tmp_path):
    out = tmp_path / "study"
    with pytest.raises(RunError, match="differ only in their seed"):
        convscope.compare_runs(existing[:2], out=out, progress=Progress())
    with pytest.raises(RunError, match="named twice"):
        convscope.compare_runs([existing[0], existing[0]], out=out, progress=Progress())
    other = shutil.copytree(existing[2], tmp_path / "other")
    rows = (other / "split.csv").read_text().splitlines()
    for part, its, at in (("val", "test", 0), ("test", "val", -1)):
        number = [number for number, row in enumerate(rows) if f",{part}," in row][at]
        rows[number] = rows[number].replace(f",{part},", f",{its},")
    (other / "split.csv").write_text("\n".join(rows))
    for final, part in ((False, "validation"), (True, "test")):
        with pytest.raises(DataError, match=f"not evaluated on the same {part} images"):
            convscope.compare_runs([existing[0], other], out=out, final=final, progress=Progress())
    grouped = tmp_path / "grouped"
    shutil.copytree(existing[0], grouped)
    head, *rows = (grouped / "split.csv").read_text().splitlines()
    rows = [f"{head},group", *(f"{row},{number // 10}" for number, row in enumerate(rows))]
    (grouped / "split.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match="have their images in other groups"):
        convscope.compare_runs([existing[2], grouped], out=out, progress=Progress())
    assert not out.exists()
    for options, words in (
        ({"models": ["cnn-functional"]}, "at least two configurations"),
        ({"models": ["cnn-functional"] * 2}, "named twice"),
        ({"models": ["cnn-functional", "cnn-sequential"], "seeds": 0}, "at least 1"),
        (
            {"models": ["cnn-functional", "cnn-sequential"], "settings": {"seed": 3}},
            "'seed' cannot be given with --set here: an option of its own decides it",
        ),
        ({"models": ["cnn-functional", "fast-small"], "recipes": ["probe"]}, "is not for"),
        (
            {"models": ["cnn-functional"], "vary": {"split.seed": [1, 2]}},
            r"seed=1 and seed=2 would be judged by other images.*out of --vary",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            convscope.compare(**{"data": "digits", "out": out, "progress": Progress(), **options})
    assert not out.exists()
