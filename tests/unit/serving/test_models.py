"""Several models and versions; loading beside what answers."""

import asyncio
import dataclasses
import gc
import threading
import time
import weakref

import numpy as np
import pytest
from serving_server import GreyValues, Server, png

from convscope.classifier.classify import Classifier
from convscope.classifier.shares import CONFIDENCES, Shares
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import ConfigError, ConvscopeError, FailureError, RunError
from convscope.serving import models as module
from convscope.serving.limits import RefusedError
from convscope.serving.metrics import Metrics
from convscope.serving.models import Models, Settings, sources_of, without_folder

NAMES = tuple(f"grey {value}" for value in range(256))


@pytest.fixture
def opened(monkeypatch):
    """Files are classifiers if their text is the name of one; returns what was opened."""
    found = []

    class Opened(Classifier):
        def __init__(self, path, **settings):
            text = path.read_text().strip()
            if text == "bad":
                raise RunError(f"{path} is damaged")
            super().__init__(GreyValues(), ClassifierSpec(NAMES, 4, 4, 1, run_id=text))
            if text == "failing":
                self.network.fails_at = 0
            self.sha256 = text
            found.append(text)

    monkeypatch.setattr(module.exported, "Classifier", Opened)
    monkeypatch.setattr(module, "_digest", lambda path: path.read_text().strip())
    return found


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def loaded(*given):
    models = Models(sources_of(given), Settings(), Metrics())
    models.load_all()
    return models


def run_id(models, *of):
    return models.get(*of).classifier.spec.run_id


def test_models_have_the_names_of_their_files_or_others(tmp_path):
    file = tmp_path / "cats.onnx"
    names = [source.name for source in sources_of([file, f"other={file}"])]
    assert names == ["cats", "other"]
    assert [source.name for source in sources_of({"a": file, "b": str(file)})] == ["a", "b"]
    for given, words in (
        ([file, file], "two models are called 'cats'"),
        ([f"a b={file}"], "cannot be the name"),
        ([f"={file}"], "cannot be the name"),
        ([f"../x={file}"], "cannot be the name"),
        ([], "no model was given"),
    ):
        with pytest.raises(ConfigError, match=words):
            sources_of(given)


def test_the_newest_version_answers_unless_one_asks_for_another(tmp_path, opened):
    for version in (2, 10, 1):
        name = "MODEL.ONNX" if version == 2 else "model.onnx"
        write(tmp_path / "cats" / str(version) / name, f"run {version}")
    write(tmp_path / "dogs.onnx", "dogs")
    models = loaded(tmp_path / "cats", tmp_path / "dogs.onnx")
    assert list(models.versions("cats")) == ["1", "2", "10"]
    assert run_id(models) == "run 10"
    assert run_id(models, "cats", "2") == "run 2"
    assert run_id(models, "dogs") == "dogs"
    for of in (("birds", None), ("cats", "3")):
        with pytest.raises(RefusedError) as refused:
            models.get(*of)
        assert refused.value.status == 404


def test_a_changed_file_is_loaded_beside_and_swapped_and_an_equal_one_is_not_read(tmp_path, opened):
    file = write(tmp_path / "cats.onnx", "first")
    models = loaded(file)
    assert models.load("cats") == []
    write(file, "second")
    assert models.load("cats") == ["1"]
    assert run_id(models) == "second"
    assert opened == ["first", "second"]


@pytest.mark.parametrize(
    ("text", "words"), [("bad", "is damaged"), ("failing", "loads but does not run")]
)
def test_a_bad_new_version_leaves_the_old_one(tmp_path, opened, text, words):
    write(tmp_path / "cats" / "1" / "model.onnx", "first")
    models = loaded(tmp_path / "cats")
    write(tmp_path / "cats" / "2" / "model.onnx", text)
    with pytest.raises(ConvscopeError, match=words):
        models.load("cats")
    assert list(models.versions("cats")) == ["1"]
    assert models.ready()
    assert run_id(models) == "first"


def test_a_folder_without_versions_and_outputs_of_another_shape_are_refused(tmp_path, opened):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="has no folder '1'"):
        loaded(tmp_path / "empty")
    write(tmp_path / "mine" / "run.json", "{}")
    with pytest.raises(RunError, match=r"is a run; .*: convscope export \S*mine --out mine.onnx"):
        loaded(tmp_path / "mine")
    wrong = Classifier(GreyValues(), ClassifierSpec(("a", "b"), 4, 4, 1))
    with pytest.raises(FailureError, match="2 classes"):
        loaded(wrong)
    broken = GreyValues()
    broken.predict_on_batch = lambda images: np.full((len(images), 2), np.nan, np.float32)
    with pytest.raises(FailureError, match="not finite"):
        loaded(Classifier(broken, ClassifierSpec(("a", "b"), 4, 4, 1)))


def test_messages_for_clients_name_the_file_without_its_folder(tmp_path, opened):
    write(tmp_path / "cats" / "1" / "model.onnx", "bad")
    (source,) = sources_of(tmp_path / "cats")
    models = Models([source], Settings(), Metrics())
    with pytest.raises(RunError) as failed:
        models.load("cats")
    assert without_folder(failed.value, source) == "model.onnx is damaged"


def test_requests_in_progress_finish_with_the_version_that_they_began_with(tmp_path, opened):
    file = write(tmp_path / "cats.onnx", "first")
    models = loaded(file)
    free, began = threading.Event(), threading.Event()

    def wait():
        began.set()
        free.wait(5)

    async def run():
        old = models.get()
        old.classifier.network.wait = wait
        image = np.full((4, 4, 1), 7, np.uint8)
        asked = asyncio.create_task(old.predict([image]))
        await asyncio.to_thread(began.wait, 5)
        write(file, "second")
        await asyncio.to_thread(models.load, "cats")
        new = models.get()
        assert new is not old
        probs, _ = await new.predict([image])
        assert probs.argmax() == 7
        assert not asked.done()
        free.set()
        probs, _ = await asked
        assert probs.argmax() == 7

    asyncio.run(run())


def test_a_model_that_was_replaced_leaves_the_memory_by_itself(tmp_path, opened):
    file = write(tmp_path / "cats.onnx", "first")
    models = loaded(file)
    served = models.get()
    asyncio.run(served.predict([np.zeros((4, 4, 1), np.uint8)]))
    old = weakref.ref(served.classifier)
    del served
    write(file, "second")
    gc.collect()
    gc.disable()  # what was there at the start of a server is never looked through
    try:
        models.load("cats")
        assert old() is None
    finally:
        gc.enable()
    assert run_id(models) == "second"


def answer(models, value, n_images):
    image = np.full((4, 4, 1), value, np.uint8)
    return asyncio.run(models.get().predict([image] * n_images))


def test_answers_of_a_model_are_compared_with_its_own_images_only(tmp_path, opened):
    usual = Shares(2, (1.0,) + (0.0,) * 255, tuple(float(end == 0.5) for end in CONFIDENCES))
    file = write(tmp_path / "cats.onnx", "first")
    metrics = Metrics()
    models = Models(sources_of([file]), Settings(), metrics)
    models.load_all()
    answer(models, 1, 8)
    assert models.get().metrics.drift(usual)["classes"] == 1
    for bad in ("bad", "failing"):
        write(file, bad)
        with pytest.raises(ConvscopeError):
            models.load("cats")
        assert models.get().metrics.shares(usual)["images"] == 8
    write(file, "second")
    models.load("cats")
    assert models.get().metrics.drift(usual) == {}
    answer(models, 0, 3)
    assert models.get().metrics.drift(usual)["classes"] == 0
    # What Prometheus adds up goes on.
    assert 'convscope_images_total{model="cats"} 11.0' in metrics.text().decode()


def test_thresholds_of_a_model_that_cannot_be_loaded_are_not_counted_by(
    tmp_path, opened, monkeypatch
):
    file = write(tmp_path / "cats.onnx", "first")
    models = loaded(file)
    monkeypatch.setattr(
        module.exported.Classifier, "__init__", with_thresholds(module.exported.Classifier.__init__)
    )
    write(file, "failing")
    with pytest.raises(FailureError):
        models.load("cats")
    answer(models, 1, 1)
    shares = models.get().metrics.shares(Shares())["classes"]
    assert [each["class"] for each in shares if each["share"]] == ["grey 1"]


def with_thresholds(init):
    def changed(self, path, **settings):
        init(self, path, **settings)
        self.spec = dataclasses.replace(self.spec, multi_label=True, thresholds=(0.001,) * 256)

    return changed


def test_figures_of_a_model_that_was_replaced_are_gone():
    usual = Shares(2, (1.0,) + (0.0,) * 255, tuple(float(end == 0.5) for end in CONFIDENCES))
    server = Server(val_shares=usual)
    server.predict(png(1))
    said = server.ask("GET", "/metrics").text
    assert 'convscope_val_answers{class="grey 1"' in said
    assert "convscope_drift{" in said
    other = Server(prefix="red ")
    server.models._loaded = other.models._loaded
    said = server.ask("GET", "/metrics").text
    assert "convscope_val_answers{" not in said
    assert "convscope_val_confidence{" not in said
    assert "convscope_drift{" not in said


def test_a_model_without_a_threshold_cannot_reject():
    given = Classifier(GreyValues(), ClassifierSpec(NAMES, 4, 4, 1))
    with pytest.raises(RunError, match="no threshold"):
        Models(sources_of(given), Settings(reject=True), Metrics()).load_all()


ORT = "onnxruntime"


@pytest.mark.parametrize(
    ("seconds", "settings", "opened"),
    [
        (0, {}, [(ORT, 1)]),
        (0.01, {}, [(ORT, 1), (ORT, None)]),
        (0, {"threads": 2}, [(ORT, 2)]),
        (0, {"engine": "auto"}, [(ORT, 1), ("auto", 1)]),
        (0.01, {"engine": "auto"}, [(ORT, 1), ("auto", None)]),
    ],
)
def test_a_small_network_gets_one_thread_unless_the_user_says(
    tmp_path, monkeypatch, seconds, settings, opened
):
    asked = []

    class Opened(Classifier):
        def __init__(self, path, *, engine, threads, shared):
            assert shared
            asked.append((engine, threads))
            super().__init__(GreyValues(), ClassifierSpec(NAMES, 4, 4, 1))
            self.network.wait = lambda: time.sleep(seconds)

    monkeypatch.setattr(module.exported, "Classifier", Opened)
    file = write(tmp_path / "m.onnx", "x")
    Models(sources_of([file]), Settings(**settings), Metrics()).load_all()
    assert asked == opened


@pytest.mark.parametrize(
    ("ms", "given", "n_images"), [(0, None, 32), (12, None, 2), (60, None, 1), (12, 7, 7)]
)
def test_batches_are_as_large_as_pays_unless_one_says_how_large(ms, given, n_images):
    network = GreyValues()
    network.wait = lambda: time.sleep(ms / 1000)
    served = Server(network=network, max_batch=given).models.get()
    assert served.batcher.max_batch == n_images
    asyncio.run(served.predict([np.zeros((4, 4, 1), np.uint8)] * 40))
    assert max(network.batches) == n_images
    assert sum(network.batches) == 40
