"""The verbs, from Python: train, evaluate and predict agree with each other and with the run."""

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope import Progress, Run
from convscope.classifier.classify import at_temperature
from convscope.classifier.keras_model import spec_of
from convscope.errors import ConfigError, DataError, RunError, StorageError, UnknownNameError
from convscope.evaluation.predictions import read_predictions
from convscope.types import ImagePrediction, UnreadableImage

FILES = {
    *("run.json", "config.yaml", "classes.json", "environment.json", "split.csv", "results.csv"),
    *("metrics.json", "predictions.parquet", "curves.png", "confusion_matrix.png"),
    *("confusion_matrix.csv", "samples.png"),
    *("weights/best.keras", "weights/last.keras", "weights/last.json"),
}


@pytest.fixture
def mine(digits_run, tmp_path) -> Run:
    """A copy of the run, to write to."""
    shutil.copytree(digits_run, tmp_path / "copy")
    return Run(tmp_path / "copy")


def save_test_images(folder: Path) -> list[Path]:
    """Write the test images of the digits as PNG files; return them in the order of the split."""
    test = convscope.load("digits", progress=Progress()).test
    assert test is not None
    opened = test.open(lambda _: None)
    files = []
    for image, name in zip(opened.images, opened.ids, strict=True):
        files.append(folder / f"{str(name).replace('/', '-')}.png")
        Image.fromarray(image.squeeze()).save(files[-1])
    return files


def probs_of(results) -> np.ndarray:
    results = list(results)
    assert all(isinstance(result, ImagePrediction) for result in results)
    return np.array([list(result.probs.values()) for result in results])


def test_the_public_names_are_those_of_the_command_line():
    for verb in ("train", "evaluate", "predict", "load", "check", "describe"):
        assert inspect.isfunction(getattr(convscope, verb))
        assert getattr(convscope, verb).__doc__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        convscope.trian  # noqa: B018 - the access is what is tested
    assert set(convscope.__all__) <= set(dir(convscope))


def test_a_finished_run_holds_everything(digits_run):
    run = Run.open(digits_run)
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert found - {"weights/snapshot.npz", ".lock", ".state.lock"} == FILES
    assert run.status == "finished"
    assert run.class_names == list("0123456789")
    assert run.state["input"] == {"height": 8, "width": 8, "channels": 1, "scaling": "unit"}
    assert len(run.results_file.read_text().splitlines()) == 1 + 3
    assert [opening["by"] for opening in run.state["test_openings"]] == ["train"]
    # The split is that of the dataset as loaded now, image by image.
    dataset = convscope.load("digits", progress=Progress())
    rows = [line.split(",") for line in run.split_file.read_text().splitlines()[1:]]
    assert len(rows) == 1797
    assert [row[0] for row in rows if row[3] == "test"] == list(dataset.test.ids)


@pytest.mark.parametrize("image_size", [None, 16, 5], ids=["own size", "enlarged", "shrunk"])
def test_a_file_is_judged_as_the_same_image_of_the_test_set(tmp_path, digits_run, image_size):
    run = Run.open(digits_run)
    if image_size is not None:
        run = convscope.train(
            "cnn-functional",
            data="digits",
            image_size=image_size,
            epochs=1,
            precision="float32",
            out=tmp_path / "run",
            progress=Progress(),
        )
    saved, about = read_predictions(run.predictions_file)
    assert about["weights"] == "last"
    assert about["weights_sha256"] == run.weights_sha256("last")
    files = save_test_images(tmp_path)
    found = probs_of(convscope.predict(run, files, batch_size=100, progress=Progress()))
    temperature = spec_of(run, "last").temperature
    assert temperature != 1
    wanted = at_temperature(saved["test"].probs, temperature)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    np.testing.assert_array_equal(found.argmax(axis=1), saved["test"].probs.argmax(axis=1))
    right = (found.argmax(axis=1) == saved["test"].labels).mean()
    assert right == pytest.approx(run.metrics["test"]["accuracy"], abs=1e-9)


def test_evaluate_gives_what_train_wrote_and_what_the_file_says(mine):
    run = mine
    before = json.loads(run.metrics_file.read_text())
    run.metrics_file.unlink()
    metrics = convscope.evaluate(str(run.path), progress=Progress())
    assert metrics == run.metrics == before
    saved, _ = read_predictions(run.predictions_file)
    for part in ("val", "test"):
        truth = saved[part]
        share = (truth.probs.argmax(axis=1) == truth.labels).mean()
        assert metrics[part]["accuracy"] == pytest.approx(share)
    # The last epoch of training judged the same weights on the same validation images.
    last = run.results_file.read_text().splitlines()[-1].split(",")
    assert float(last[3]) == pytest.approx(metrics["val"]["loss"], abs=1e-4)
    assert float(last[4]) == pytest.approx(metrics["val"]["accuracy"], abs=1e-6)


def test_predict_says_which_weights_and_takes_strings(digits_run, tmp_path):
    files = [str(file) for file in save_test_images(tmp_path)[:20]]
    last = probs_of(convscope.predict(str(digits_run), files, progress=Progress()))
    named = probs_of(convscope.predict(digits_run, files, weights="last", progress=Progress()))
    np.testing.assert_array_equal(last, named)
    with pytest.raises(UnknownNameError, match="did you mean 'last'"):
        convscope.predict(digits_run, files, weights="lasst", progress=Progress())


def test_predict_reads_as_it_goes_and_passes_over_what_it_cannot_read(digits_run, tmp_path):
    files = save_test_images(tmp_path)[:6]
    files[2].write_bytes(b"")
    results = convscope.predict(digits_run, files, batch_size=2, progress=Progress())
    assert next(results).path == files[0]
    # Not read before it is asked for.
    files[5].write_bytes(b"not an image")
    rest = list(results)
    assert [result.path for result in rest] == files[1:]
    assert [isinstance(result, UnreadableImage) for result in rest] == [
        *(False, True, False, False, True)
    ]


def test_any_size_and_mode_of_file_is_taken(digits_run, tmp_path):
    """A model of 8 x 8 grey images is given photographs of others."""
    (file,) = save_test_images(tmp_path)[:1]
    with Image.open(file) as small:
        large = small.resize((200, 120), Image.Resampling.NEAREST)
    large.convert("RGB").save(tmp_path / "large.jpg", quality=95)
    large.convert("RGBA").save(tmp_path / "large.webp", lossless=True)
    large.convert("P").save(tmp_path / "large.gif")
    names = ["large.jpg", "large.webp", "large.gif"]
    found = probs_of(
        convscope.predict(digits_run, [tmp_path / name for name in names], progress=Progress())
    )
    true = probs_of(convscope.predict(digits_run, [file], progress=Progress()))[0]
    for probs in found:
        assert probs.argmax() == true.argmax()
        np.testing.assert_allclose(probs.sum(), 1, atol=1e-5)


def test_no_run_below_a_file_and_one_line_says_so(tmp_path):
    below = tmp_path / "file" / "run"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError) as caught:
        convscope.train(data="digits", precision="float32", out=below, progress=Progress())
    assert str(caught.value) == (f"cannot write {below}: there is a file where a folder must be")
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model": "cnn"}, UnknownNameError),
        ({"recipe": "fst"}, UnknownNameError),
        ({"settings": {"optimizer.momentun": 0.9}}, UnknownNameError),
        ({"settings": {"optimizer.momentum": 2}}, ConfigError),
        ({"batch_size": 0}, ConfigError),
        ({"trackers": ["nobody"]}, UnknownNameError),
        ({"image_size": 3}, ConfigError),
        ({"settings": {"split.folds": 5000}}, DataError),
    ],
)
def test_no_mistake_leaves_a_run_behind(tmp_path, arguments, error):
    given = {"data": "digits", "precision": "float32", **arguments}
    with pytest.raises(error) as caught:
        convscope.train(out=tmp_path / "run", progress=Progress(), **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_registered_dataset_is_itself_wherever_it_is_said_to_be(mine):
    """`data` is for folders that moved; a dataset that has no folder is what it always is."""
    before = mine.metrics
    found = convscope.evaluate(mine, data="digits", fresh=True, progress=Progress())
    assert found == before
    assert len(mine.state["test_openings"]) == 2


def test_data_of_another_kind_is_refused(digits_run, tmp_path):
    (tmp_path / "a").mkdir()
    before = Run.open(digits_run).state["test_openings"]
    with pytest.raises(convscope.ConvscopeError):
        convscope.evaluate(digits_run, data=tmp_path, fresh=True, progress=Progress())
    with pytest.raises(RunError, match="does not exist"):
        convscope.evaluate(tmp_path / "none", progress=Progress())
    assert Run.open(digits_run).state["test_openings"] == before


@pytest.mark.slow
def test_augmentation_reaches_a_network_that_learns_from_nothing(tmp_path):
    same = {"data": "digits", "epochs": 1, "precision": "float32", "progress": Progress()}
    plain, again, varied = (
        convscope.train("cnn-functional", out=tmp_path / name, settings=settings, **same)
        for name, settings in (("a", {}), ("b", {}), ("c", {"augment.crop": 0.1}))
    )
    assert plain.weights_sha256("last") == again.weights_sha256("last")
    assert plain.weights_sha256("last") != varied.weights_sha256("last")


def test_an_export_is_not_named_like_another_format(digits_run, tmp_path):
    with pytest.raises(ConfigError, match="ends like the format litert, and onnx is asked for"):
        convscope.export(digits_run, out=tmp_path / "model.tflite", progress=Progress())
    for name in ("mymodel", "digits.bin", "lr0.01"):
        with pytest.raises(ConfigError, match=rf"{name} must end in \.onnx; onnx is one file"):
            convscope.export(digits_run, out=tmp_path / name, progress=Progress())
    assert list(tmp_path.iterdir()) == []


def test_no_command_replaces_what_it_reads_or_what_a_run_holds(digits_run, digits_export, tmp_path):
    quiet = {"progress": Progress()}
    run, photo = tmp_path / "run", tmp_path / "photo.png"
    shutil.copytree(digits_run, run)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(photo)
    (tmp_path / "in.csv").write_text("file\nphoto.png\n")
    (tmp_path / "in.jsonl").write_text('{"file": "photo.png"}\n')
    (tmp_path / "link.csv").symlink_to("in.csv")
    lists = str(tmp_path / "*.jsonl")

    def predict(images, out):
        return lambda: list(convscope.predict(digits_export[0], [images], out=out, **quiet))

    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    refused = {
        "in.csv": predict(tmp_path / "in.csv", tmp_path / "in.csv"),
        "in.jsonl": predict(lists, tmp_path / "in.jsonl"),
        "link.csv": predict(tmp_path / "in.csv", tmp_path / "link.csv"),
        "results.csv": predict(photo, run / "results.csv"),
        "photo.png": lambda: convscope.similar(run, photo, out=photo, **quiet),
        "curves.png": lambda: convscope.gallery(run, out=run / "curves.png", **quiet),
        "last.keras": lambda: convscope.export(run, out=run / "weights/last.keras", **quiet),
        "run.json": lambda: convscope.export(run, out=run / "run", **quiet),
        "predictions.parquet": lambda: convscope.embed(
            run, [photo], out=run / "predictions.parquet", **quiet
        ),
    }
    for name, command in refused.items():
        with pytest.raises((DataError, RunError), match="choose another place") as error:
            command()
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        assert files() == before
    # The list beside itself, and the places of a run that are for such results, are fine.
    assert len(predict(tmp_path / "in.csv", tmp_path / "out.csv")()) == 1
    assert len(predict(tmp_path / "in.csv", tmp_path / "out.csv")()) == 1
    convscope.embed(run, [photo], out=run / "embedding.parquet", **quiet)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """The digits as PNG files in a folder for each class: all test images, ten training images."""
    data = convscope.load("digits", progress=Progress())
    assert data.test is not None
    parts = {"test": data.test.open(lambda _: None), "train": data.train.take(np.arange(10))}
    for name, part in parts.items():
        for number, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            file = tmp_path / "pictures" / str(label) / f"{name}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.squeeze()).save(file)
    return tmp_path / "pictures"


def test_on_the_files_of_its_test_images_a_run_has_its_test_figures(mine, pictures):
    done = convscope.evaluate_on(mine, pictures, progress=Progress())
    assert (done.n_images, done.n_learnt, done.n_of_test) == (360, 10, 360)
    assert done.path == mine.path / "evaluations" / "pictures"
    assert done.test == mine.metrics["test"]
    assert done.metrics["per_class"] == mine.metrics["test"]["per_class"]
    for key in ("accuracy", "loss", "loss_at_temperature", "calibration_error_at_temperature"):
        assert done.metrics[key] == pytest.approx(mine.metrics["test"][key], abs=1e-5), key
    with pytest.raises(DataError, match=r"; as other images: convscope evaluate .* --on "):
        convscope.evaluate(mine, data=pictures, progress=Progress())
    # The same images, so there is nothing to compare; a look at them is logged.
    assert done.p_as_test is None
    assert mine.state["test_openings"][-1]["n_images"] == 360
    assert mine.foreign_names() == set()
    assert [run.path for run in Run.find_all(mine.path.parent)] == [mine.path]


def test_an_exported_file_has_the_accuracy_of_its_run_on_new_images(
    mine, pictures, digits_export, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path, _ = digits_export
    shutil.rmtree(pictures / "3")
    for file in pictures.rglob("train*.png"):
        file.unlink()
    of_file = convscope.evaluate_on(path, pictures, progress=Progress())
    of_run = convscope.evaluate_on(mine, pictures, progress=Progress())
    assert of_file.metrics["missing_classes"] == of_run.metrics["missing_classes"] == ["3"]
    assert of_file.n_images == of_run.n_images
    assert (of_file.n_learnt, of_run.n_learnt) == (None, 0)
    for key in ("accuracy", "loss", "calibration_error"):
        assert of_file.metrics[key] == pytest.approx(of_run.metrics[key], abs=1e-3), key
    assert of_file.path == Path("evaluations/pictures")
    (pictures / "ten").mkdir()
    Image.new("L", (8, 8)).save(pictures / "ten" / "1.png")
    with pytest.raises(DataError, match="has images of 'ten', which the model does not know"):
        convscope.evaluate_on(mine, pictures, progress=Progress())
