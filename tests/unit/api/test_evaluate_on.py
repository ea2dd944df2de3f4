"""Figures on images that are not those of the run, without a framework: a network of brightness."""

import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier import classify
from convscope.classifier.classify import at_temperature
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import ConfigError, DataError, RunError, StorageError
from convscope.evaluation.opening import log_seen_again
from convscope.evaluation.predictions import read_predictions
from convscope.ledger import Ledger
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import Predictions, hashes_of

module = importlib.import_module("convscope.api.evaluate_on")

SPEC = ClassifierSpec(("dark", "grey", "light"), 4, 4, 1, temperature=2.0)
LEVELS = {"dark": 20, "grey": 120, "light": 230}


class Brightness:
    """A network that is sure of the class whose brightness is nearest."""

    def predict_on_batch(self, images):
        means = images.mean(axis=(1, 2, 3))[:, None]
        near = -np.abs(means - np.array(list(LEVELS.values()))) / 40
        weights = np.exp(near)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class Lines(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def exported(monkeypatch, tmp_path):
    """The network as an exported file, which takes the temperature itself."""

    class Final:
        def predict_on_batch(self, images):
            return at_temperature(Brightness().predict_on_batch(images), SPEC.temperature)

    class Exported(classify.Classifier):
        def __init__(self, path):
            self.path = Path(path)
            steps = ("resizing", "views", "temperature")
            super().__init__(Final(), ClassifierSpec(**{**vars(SPEC), "in_graph": steps}))

    monkeypatch.setattr(module, "Classifier", Exported)
    monkeypatch.chdir(tmp_path)
    return "x.onnx"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Ten images of each class, of many sizes; one of "dark" is grey."""
    random = np.random.default_rng(3)
    for name, level in LEVELS.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(10):
            bright = 120 if (name, number) == ("dark", 0) else level
            pixels = random.integers(bright - 8, bright + 8, (4 + number, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def of_run(monkeypatch, tmp_path):
    """A function that makes the network that of a run, with facts of `_Judged`."""
    run = Run(tmp_path / "runs" / "one")
    run.record(status="finished")

    def make(*, spec=SPEC, network=Brightness, **facts) -> Path:
        judged = module._Judged(
            path=run.path,
            spec=spec,
            open=lambda: classify.Classifier(network(), spec),
            about={"weights": "last", "weights_sha256": "1"},
            results=run.evaluations_dir,
            run=run,
            **facts,
        )
        monkeypatch.setattr(module, "_of_run", lambda run, weights: judged)
        return run.path

    return make


def hash_of(file: Path) -> str:
    return hashes_of([classify.Classifier(Brightness(), SPEC).decode(file)])[0]


def evaluate(model, data, **settings):
    return convscope.evaluate_on(model, data, **{"progress": Progress(), **settings})


def test_the_figures_are_those_of_what_predict_answers(exported, photos, tmp_path):
    lines = Lines()
    done = evaluate(exported, photos, progress=lines)
    assert done.metrics["accuracy"] == pytest.approx(29 / 30)
    assert done.metrics["per_class"]["dark"]["recall"] == pytest.approx(0.9)
    assert done.n_images == 30
    assert (done.n_learnt, done.n_of_test, done.test, done.p_as_test) == (None,) * 4
    assert done.notes == ["whether the model was trained on some of the images is unknown"]
    assert lines.said[-1].startswith("These 30 images are evaluated for the first time")
    assert done.path == Path("evaluations/photos")
    assert {path.name for path in done.path.iterdir()} == {
        *("metrics.json", "predictions.parquet", "confusion_matrix.csv", "confusion_matrix.png")
    }
    content = json.loads((done.path / "metrics.json").read_text())
    assert content["new"] == json.loads(json.dumps(done.metrics))
    assert content["data"] == str(photos)
    rows = list(csv.reader((done.path / "confusion_matrix.csv").read_text().splitlines()))
    assert rows[1:] == [
        ["dark", "9", "1", "0"],
        ["grey", "0", "10", "0"],
        ["light", "0", "0", "10"],
    ]
    # As of a run: before the temperature, which the file takes itself.
    said, about = read_predictions(done.path / "predictions.parquet")
    pixels = classify.Classifier(Brightness(), SPEC).decode(photos / "light" / "light9.png")
    (row,) = np.flatnonzero(said["new"].ids == "light/light9.png")
    wanted = Brightness().predict_on_batch(pixels[None])[0]
    np.testing.assert_allclose(said["new"].probs[row], wanted, atol=1e-5)
    assert about["file"].endswith("x.onnx")


def test_what_the_run_has_learnt_is_left_out_and_counted(of_run, photos):
    files = sorted(photos.rglob("*.png"))
    parts = dict(zip(map(hash_of, files), ["train"] * 6 + ["val"] * 4 + ["test"] * 3, strict=False))
    run = of_run(part_of=parts)
    done = evaluate(run, photos)
    assert (done.n_images, done.n_learnt, done.n_of_test) == (20, 10, 3)
    assert done.metrics["missing_classes"] == ["dark"]
    assert done.notes == [
        "left out: 10 images that the run was trained or chosen by",
        "test images of the run among them: 3",
        "no image of 1 of 3 classes: 'dark'",
    ]
    # A look at its test images, in the run; and at all of these, on the machine.
    (opening,) = Run(run).state["test_openings"]
    assert (opening["by"], opening["n_images"]) == ("evaluate", 3)
    assert [look["run"] for look in Ledger().looks] == [str(run)]
    assert Run(run).foreign_names() == set()
    with pytest.raises(DataError, match="all images of photos are training or validation images"):
        evaluate(of_run(part_of=dict.fromkeys(map(hash_of, files), "train")), photos)


def test_a_difference_from_the_own_test_images_is_told_only_beyond_chance(of_run, photos):
    def saved(n_right: int) -> Predictions:
        probs = np.tile(np.array([[0.8, 0.1, 0.1]], np.float32), (100, 1))
        labels = np.where(np.arange(100) < n_right, 0, 1)
        return Predictions(probs, labels, np.arange(100).astype(str), "test")

    done = evaluate(of_run(own_test=saved(60)), photos)
    assert done.test is not None
    assert done.test["accuracy"] == pytest.approx(0.6)
    assert done.p_as_test is not None
    assert done.p_as_test < 0.001
    own = "the accuracy on the run's own test images"
    above = f"36.7 points above {own}, more than chance explains (p = "
    assert done.notes[-1].startswith(above)
    done = evaluate(of_run(own_test=saved(98)), photos)
    assert done.p_as_test is not None
    assert done.p_as_test > 0.5
    assert done.notes[-1].startswith(f"no difference from {own} is shown (p = ")


def test_some_classes_and_a_single_one_are_fine_and_an_unknown_one_is_not(exported, photos):
    for name in ("grey", "dark"):
        (photos / name).rename(photos.parent / name)
    assert evaluate(exported, photos).metrics["accuracy"] == 1
    (photos.parent / "grey").rename(photos / "Grey")
    with pytest.raises(DataError) as error:
        evaluate(exported, photos)
    assert str(error.value) == (
        "photos has images of 'Grey', which the model does not know; its classes are 'dark', "
        "'grey', 'light': call the same class the same, or leave those images out"
    )


def test_all_parts_are_taken_and_groups_are_those_of_the_run(of_run, photos):
    for part in ("train", "test"):
        (photos / part).mkdir()
    (photos / "dark").rename(photos / "test" / "dark")
    (photos / "grey").rename(photos / "train" / "grey")
    (photos / "light").rename(photos / "train" / "light")
    lines = Lines()
    done = evaluate(of_run(group_pattern="[a-z]+[0-4]?"), photos, progress=lines)
    assert "photos: its parts 'train', 'test' are taken together" in lines.said
    assert done.n_images == 30
    assert done.metrics["n_groups"] < 30
    lines = Lines()
    done = evaluate(of_run(group_pattern="patient[0-9]+"), photos, progress=lines)
    assert "n_groups" not in done.metrics
    assert any("so each image counts for itself" in line for line in lines.said)


def test_the_same_images_replace_their_results_and_others_do_not(exported, photos, tmp_path):
    places = [evaluate(exported, photos).path for _ in range(2)]
    assert places == [Path("evaluations/photos")] * 2
    other = tmp_path / "other" / "photos"
    (other / "dark").mkdir(parents=True)
    Image.new("L", (4, 4), 20).save(other / "dark" / "1.png")
    assert evaluate(exported, other).path == Path("evaluations/photos-2")
    assert evaluate("y.onnx", photos).path == Path("evaluations/photos-3")
    assert evaluate(exported, photos, out="here").path == Path("here")
    assert evaluate(exported, other, out="here").n_images == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear")
    run = Run.create(tmp_path / "runs" / "some", "")
    run.record(status="finished")
    for place, says in (
        ("mine", "mine exists, but is not the folder of an evaluation"),
        ("mine/letter.txt", "exists, but is not the folder of an evaluation"),
        (run.path, "belongs to the run"),
    ):
        with pytest.raises(RunError, match=says):
            evaluate(exported, photos, out=place)
    with pytest.raises(DataError, match="which is never written to"):
        evaluate(exported, photos, out=photos / "results")


@pytest.mark.parametrize("out", [None, "here"])
def test_a_folder_that_a_kill_left_is_taken_up(exported, photos, monkeypatch, out):
    def killed(*args, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_confusions", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(exported, photos, out=out)
    done = evaluate(exported, photos, out=out)
    assert done.path == Path(out or "evaluations/photos")
    assert "new" in json.loads((done.path / "metrics.json").read_text())


def test_a_run_that_cannot_be_written_to_fails_before_a_look_is_counted(
    of_run, photos, monkeypatch
):
    def refuse(self, **changes):
        raise StorageError("read-only")

    own = {hash_of(file): "test" for file in (photos / "light").iterdir()}
    run = of_run(part_of=own)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "record", refuse)
        with pytest.raises(StorageError):
            evaluate(run, photos)
    assert Ledger().looks == []
    lines = Lines()
    evaluate(run, photos, progress=lines)
    first = "These 30 images are evaluated for the first time on this machine."
    assert first in lines.said


def test_a_comparison_uses_the_images_of_the_run_again_not_those_of_such_an_evaluation(tmp_path):
    run, hashes = Run(tmp_path / "run"), hashes_of(np.zeros((2, 1, 1, 1), np.uint8))
    name, _ = Ledger().add(hashes, by="evaluate", run=run.path, look=None, shown=False)
    run.record_test_opening(by="evaluate", weights="best", n_images=2, images=name, times=1)
    run.record_test_opening(by="evaluate", weights="last", n_images=1)
    log_seen_again(run, by="compare", look="one", progress=Progress())
    last = run.state["test_openings"][-1]
    assert (last["images"], last["weights"], last["n_images"]) == (name, "best", 2)
    assert Ledger().looks[-1]["by"] == "compare"


def test_any_number_of_classes(of_run, exported, photos, tmp_path):
    table = tmp_path / "labels.csv"
    rows = [
        f"{file.relative_to(photos)},{file.parent.name}|light" for file in photos.rglob("*.png")
    ]
    table.write_text("\n".join(["file,label", *rows, ""]).replace("light|light", "light"))
    with pytest.raises(DataError, match="may have several classes, and the model names exactly"):
        evaluate(exported, photos, labels=table)
    spec = ClassifierSpec(
        **{**vars(SPEC), "multi_label": True, "thresholds": (0.5, 0.5, 0.5), "temperature": 1.0}
    )
    run = of_run(spec=spec)
    with pytest.raises(DataError, match="TABLE:multi_label=yes where each has one"):
        evaluate(run, photos)
    done = evaluate(run, photos, labels=table)
    assert done.metrics["n_images"] == 30
    assert 0 < done.metrics["mean_average_precision"] < 1
    assert {path.suffix for path in done.path.glob("mistakes.*")} == {".csv", ".png"}


def test_unreadable_images_are_left_out_and_too_many_refused(exported, photos):
    for number in range(10, 20):
        Image.new("L", (4, 4), 230).save(photos / "light" / f"{number}.png")
    (photos / "light" / "3.png").write_bytes(b"not an image")
    lines = Lines()
    assert evaluate(exported, photos, progress=lines).n_images == 40
    assert any(line.startswith("photos: left out 1 image that cannot be") for line in lines.said)
    for number in range(4):
        (photos / "dark" / f"dark{number}.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="4 of 10 images in class 'dark' cannot be read"):
        evaluate(exported, photos)


def test_a_dataset_of_pixels_and_what_is_refused_before(exported, of_run):
    # Eight pixels become four; its classes are others.
    with pytest.raises(DataError, match="digits has images of '0', '1', '2', '3', '4' and 5 more"):
        evaluate(exported, "digits")
    with pytest.raises(DataError, match="there is no folder /no/such"):
        evaluate(exported, "/no/such")
    with pytest.raises(ConfigError, match="x.onnx holds one set of weights"):
        evaluate(exported, "digits", weights="best")
    digits = ClassifierSpec(**{**vars(SPEC), "class_names": tuple("0123456789")})

    class Uniform:
        def predict_on_batch(self, images):
            assert images.shape[1:] == (4, 4, 1)
            return np.full((len(images), 10), 0.1, np.float32)

    assert evaluate(of_run(spec=digits, network=Uniform), "digits").n_images == 1797
