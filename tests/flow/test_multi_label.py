"""Images of any number of classes: every verb on one run works, or refuses in one line."""

import asyncio
import base64
import dataclasses
import json

import httpx
import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier.classify import answer_of, at_temperature
from convscope.cli import main
from convscope.errors import ConfigError, ConvscopeError, DataError
from convscope.evaluation.predictions import read_predictions
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.serving import app as serve
from convscope.studies.executor import LocalExecutor, Outcome
from convscope.training.results import read_results
from convscope.types import UnreadableImage

NAMES = ("bar", "dot", "frame")


def draw(path, classes, random):
    """Draw the classes at random places onto a dark square of 16 pixels."""
    canvas = random.integers(0, 60, (16, 16), np.uint8)
    row, column = random.integers(3, 12, 2)
    if "bar" in classes:
        canvas[row, 2:14] = 200
    if "dot" in classes:
        canvas[column : column + 2, row : row + 2] = 255
    if "frame" in classes:
        canvas[[0, 15], :] = canvas[:, [0, 15]] = 180
    Image.fromarray(canvas).save(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several") / "shapes"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["file,label"]
    for number in range(160):
        classes = [name for name in NAMES if random.random() < 0.45]
        draw(folder / f"{number}.png", classes, random)
        rows.append(f"{number}.png,{'|'.join(classes)}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def run(images):
    settings = {"augment.mixup": 0.2, "label_smoothing": 0.05, "tta.mirror": True}
    return convscope.train(
        "fast-small",
        data=images,
        labels=images / "labels.csv",
        epochs=10,
        batch_size=32,
        lr=0.01,
        settings={**settings, "judge": "best"},
        precision="float32",
        out=images.parent / "run",
        progress=Progress(),
    )


def test_the_run_learns_each_class_for_itself(run):
    assert run_config(run).multi_label
    assert run_config(run).loss == "binary_crossentropy"
    assert "multi_label: true" in run.config_file.read_text()
    metrics = run.metrics
    assert metrics["test"]["mean_average_precision"] > 0.8
    assert metrics["test"]["macro_f1"] > 0.7
    assert tuple(metrics["test"]["per_class"]) == NAMES
    for part in ("val", "test"):
        assert not {"accuracy", "top_k_accuracy", "balanced_accuracy"} & metrics[part].keys()
    assert not run.confusion_picture.exists()
    assert run.mistakes_picture.exists()
    assert run.mistakes_table.read_text().startswith("true \\ wrongly named,missed,bar,dot,frame")


def test_the_thresholds_are_those_of_the_validation_images(run):
    from convscope.classifier.keras_model import spec_of
    from convscope.evaluation.multi_label import choose_thresholds

    spec = spec_of(run, "best")
    val = read_predictions(run.predictions_file)[0]["val"]
    probs = at_temperature(val.probs, spec.temperature, multi_label=True)
    assert list(spec.thresholds) == choose_thresholds(probs, val.labels)
    assert spec.val_shares.n_images == len(val.labels)
    named = (probs >= np.array(spec.thresholds)).mean(axis=0)
    assert spec.val_shares.classes == pytest.approx(named, abs=1e-6)
    by_class = run.metrics["test"]["per_class"]
    assert [row["threshold"] for row in by_class.values()] == list(spec.thresholds)


def test_predictions_name_all_classes_above_their_thresholds(run, images):
    from convscope.classifier.keras_model import spec_of

    least = dict(zip(NAMES, spec_of(run, "best").thresholds, strict=True))
    files = [images / f"{number}.png" for number in range(12)]
    said = list(convscope.predict(run, files, progress=Progress()))
    for each in said:
        above = {name for name in NAMES if each.probs[name] >= least[name]}
        assert set(each.class_names) == above
    # Those of one image can add up to 1 by chance, those of all cannot.
    assert max(abs(sum(each.probs.values()) - 1) for each in said) > 0.1
    assert len({each.class_names for each in said}) > 2


def test_the_explorer_names_classes_by_their_thresholds_before_the_temperature(
    run, images, tmp_path, open_page, monkeypatch
):
    from convscope.classifier import keras_model

    # Other than a half, and as strict as to tell the temperature from none.
    least = (0.2, 0.5, 0.9)
    spec = dataclasses.replace(keras_model.spec_of(run, "best"), thresholds=least, temperature=3.0)
    monkeypatch.setattr(keras_model, "spec_of", lambda *_: spec)
    network = keras_model.open_classifier(run).network
    files = [images / f"{number}.png" for number in range(40)]
    pixels = np.stack([np.asarray(Image.open(file))[..., None] for file in files])
    untempered = network.predict_on_batch(pixels)
    without, answers = (
        [
            answer_of(spec, None, row).answer
            for row in at_temperature(untempered, temperature, multi_label=True)
        ]
        for temperature in (1.0, 3.0)
    )
    telling = [number for number in range(40) if without[number] != answers[number]][:2]
    assert len(telling) == 2
    explained = convscope.explain(
        run, [files[number] for number in telling], out=tmp_path, explorer=True, progress=Progress()
    )
    with open_page() as (page, _, _):
        for each, number in zip(explained, telling, strict=True):
            page.goto(each.explorer.as_uri())
            page.wait_for_selector("html[data-ready]")
            said = page.locator(".bar strong").first.text_content()
            assert said.rpartition(" (")[0] == answers[number]


def test_an_export_is_not_written_into_the_data(run, images):
    before = sorted(images.iterdir())
    with pytest.raises(DataError, match="inside the data folder"):
        convscope.export(run, out=images / "x.onnx", progress=Progress())
    assert sorted(images.iterdir()) == before


def test_settings_for_one_class_are_refused_before_there_is_a_run(images, tmp_path):
    common = {
        "data": images,
        "labels": images / "labels.csv",
        "out": tmp_path / "no",
        "precision": "float32",
        "progress": Progress(),
    }
    for options, says in (
        ({"settings": {"balance": True}}, "balance is for images of exactly one class"),
        ({"settings": {"class_weights": "sqrt"}}, "class_weights is for images of exactly"),
        ({"settings": {"multi_label": False}}, "the data decides multi_label, and it is true"),
        (
            {"settings": {"loss": "sparse_categorical_crossentropy"}},
            "the data decides the loss, and it is binary_crossentropy for shapes",
        ),
        ({"folds": 3}, "--folds gives an accuracy over all images"),
    ):
        with pytest.raises(ConfigError, match=says) as error:
            convscope.train("cnn-sequential", **options, **common)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "no").exists()


def test_every_verb_works_or_refuses_in_one_line(run, images, tmp_path):
    photo, quiet = images / "0.png", {"progress": Progress()}
    data = {"data": images, "labels": images / "labels.csv"}
    works = {
        "evaluate": lambda: convscope.evaluate(run, **quiet),
        "report": lambda: convscope.report(run, **quiet),
        "doctor": lambda: convscope.doctor(run, **quiet),
        "explain": lambda: convscope.explain(run, [photo], out=tmp_path / "why", **quiet),
        "embed": lambda: convscope.embed(run, [photo], out=tmp_path / "e.parquet", **quiet),
        "similar": lambda: convscope.similar(run, photo, top=2, out=tmp_path / "s.png", **quiet),
        "gallery": lambda: convscope.gallery(
            run, true="bar", n=3, similar=1, out=tmp_path / "g.png", **quiet
        ),
        "robustness": lambda: convscope.robustness(
            run, corruptions=["contrast"], severities=[1], n_images=20, **quiet
        ),
        "check": lambda: convscope.check(**data, **quiet),
    }
    found = {name: verb() for name, verb in works.items()}
    skipped = found["doctor"].unknown
    assert set(skipped) >= {"class-imbalance", "label-errors", "val-unlike-test"}
    assert all("may have several" in skipped[name] for name in ("class-imbalance", "label-errors"))
    (explained,) = found["explain"]
    assert not isinstance(explained, UnreadableImage)
    assert explained.gradcam.any()
    assert all("bar" in each.class_name for each in found["gallery"])
    assert found["robustness"].measure == "mAP"
    assert found["robustness"].conclusion.startswith("mAP ")
    assert found["check"].counts["train"].keys() == set(NAMES)
    page = run.report_page.read_text()
    for words in ("mAP", "macro", "wrongly named", "threshold"):
        assert words in page
    for words in ("Confusion matrix", "top-1", "correct."):
        assert words not in page
    assert "any number of them" in run.card_file.read_text()
    refuses = {
        "suspects": lambda: convscope.suspects(**data, model="fast-small", **quiet),
        "gallery of suspects": lambda: convscope.gallery(run, "suspects", **quiet),
        "ladder": lambda: convscope.ladder("mobilenet_v2", weights="random", **data, **quiet),
        "reject": lambda: list(convscope.predict(run, [photo], reject=True, **quiet)),
    }
    for name, verb in refuses.items():
        with pytest.raises(ConvscopeError) as error:
            verb()
        assert "\n" not in str(error.value), name


def test_settings_are_diagnosed_before_there_is_a_run(run, tmp_path):
    settings = tmp_path / "settings.yaml"
    text = run.config_file.read_text()
    settings.write_text(text.replace("multi_label: true", "multi_label: false"))
    found = convscope.doctor(settings, progress=Progress())
    assert "may have several" in found.unknown["class-imbalance"]


def test_a_second_run_of_the_evaluation_changes_nothing(run):
    before = json.loads(run.metrics_file.read_text())
    assert convscope.evaluate(run, progress=Progress()) == before


@pytest.mark.slow
def test_configurations_are_compared_by_their_mean_average_precision(run, images, tmp_path):
    found = convscope.compare(
        ["cnn-functional"],
        data=images,
        labels=images / "labels.csv",
        seeds=2,
        epochs=2,
        vary={"optimizer.learning_rate": [1e-5, 3e-3]},
        settings={"precision": "float32"},
        out=tmp_path / "compared",
        progress=Progress(),
    )
    (pair,) = found.pairs
    means = [np.mean(arm.accuracies) for arm in found.arms]
    assert pair.found.mean == pytest.approx(means[1] - means[0])
    for arm in found.arms:
        for trial in arm.trials:
            metrics = convscope.Run.open(found.path / trial.run).metrics
            assert trial.val_accuracy == metrics["val"]["mean_average_precision"]
    page = found.page.read_text()
    assert "validation mAP" in page
    assert "correct on the same" not in page + found.conclusion


@pytest.mark.slow
def test_an_exported_model_answers_alike_and_a_server_with_lists(run, images, tmp_path):
    path, parity = convscope.export(run, out=tmp_path / "shapes.onnx", progress=Progress())
    assert parity.measure == "mAP"
    assert parity.largest_difference < 1e-4
    assert parity.agreement > 0.99
    files = [images / f"{number}.png" for number in range(20)]
    trained = list(convscope.predict(run, files, progress=Progress()))
    exported = list(convscope.predict(path, files, progress=Progress()))
    for one, other in zip(trained, exported, strict=True):
        assert one.class_names == other.class_names
        assert one.probs == pytest.approx(other.probs, abs=1e-4)

    async def ask():
        transport = httpx.ASGITransport(serve(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            photo = files[0].read_bytes()
            plain = await client.post("/predict", content=photo)
            tensor = {"name": "pixels", "shape": [1], "datatype": "BYTES"}
            tensor["data"] = [base64.b64encode(photo).decode()]
            infer = await client.post("/v2/models/shapes/infer", json={"inputs": [tensor]})
            return plain.json(), infer.json(), (await client.get("/shares")).json()

    plain, infer, shares = asyncio.run(ask())
    (answer,) = plain["predictions"]
    assert "class" not in answer
    assert tuple(answer["classes"]) == exported[0].class_names
    assert answer["probs"] == pytest.approx(exported[0].probs, abs=1e-5)
    (said,) = (each for each in infer["outputs"] if each["name"] == "class_name")
    assert json.loads(said["data"][0]) == list(exported[0].class_names)
    assert shares["images"] == 2
    of_class = {each["class"]: each["share"] for each in shares["classes"]}
    assert of_class == {name: float(name in exported[0].class_names) for name in NAMES}


def test_the_table_shows_classes_and_probabilities(run, images, monkeypatch, capsys):
    def printed(*arguments):
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr("sys.argv", ["convscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    head, row = printed("predict", run.path, images / "1.png", "--top", "2").splitlines()[:2]
    assert head.split() == ["image", "classes", "most", "probable"]
    assert row.count("%") == 2
    text = printed("evaluate", run.path)
    assert "mAP" in text
    assert "accuracy" not in text
    assert "mAP" in printed("runs", run.path.parent)


def test_a_search_stops_trials_by_their_loss_and_scores_the_finished_ones(images, tmp_path):
    optuna = pytest.importorskip("optuna")

    class Here:
        """Executor in this process, which asks whether a trial falls behind and stops the last."""

        def outcomes(self, jobs, progress, unwanted=None):
            for job in jobs:
                for done, outcome in LocalExecutor(own_process=False).outcomes([job], progress):
                    unwanted(done)
                    stopped = done.folder.name == "0002"
                    yield done, Outcome(outcome.run, stopped=True) if stopped else outcome

    found = convscope.tune(
        "cnn-sequential",
        data=images,
        labels=images / "labels.csv",
        recipe="tutorial",
        epochs=2,
        trials=2,
        confirm=0,
        space={"optimizer.learning_rate": "0.001,0.01"},
        settings={"precision": "float32"},
        out=tmp_path / "search",
        executor=Here(),
        progress=Progress(),
    )
    assert found.measure == "mAP"
    assert [trial.score is None for trial in found.trials] == [False, True]
    study = optuna.load_study(
        study_name="convscope", storage=f"sqlite:///{tmp_path / 'search' / 'trials.db'}"
    )
    rows = read_results(tmp_path / "search" / "trials" / "0001" / "results.csv")
    reported = study.trials[0].intermediate_values
    assert reported == {row["epoch"]: -row["val_loss"] for row in rows}
    assert study.trials[0].value == found.trials[0].score
