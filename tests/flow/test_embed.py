"""Features of a run: as a table, and to find the training images that an image is like."""

import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import convscope
from convscope.classifier.keras_model import load_model
from convscope.errors import ConfigError, DataError, ImageError, StorageError
from convscope.evaluation import embedding
from convscope.evaluation.embedding import Embedder
from convscope.evaluation.neighbours import Neighbourhood
from convscope.progress import Progress
from convscope.run import Run
from convscope.training import inference

QUIET = {"progress": Progress()}


def size_of(picture) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


class Listener(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def run(digits_run, tmp_path_factory) -> Run:
    copy = tmp_path_factory.mktemp("embed") / "run"
    shutil.copytree(digits_run, copy)
    return Run(copy)


@pytest.fixture(scope="module")
def digits():
    return convscope.load("digits", progress=Progress())


@pytest.fixture
def folder(tmp_path, digits):
    for index in range(5):
        Image.fromarray(digits.val.images[index].squeeze()).save(tmp_path / f"{index}.png")
    return tmp_path


def test_the_table_has_the_input_of_the_last_layer_and_the_answers_of_predict(
    run, folder, digits, monkeypatch
):
    monkeypatch.setattr(embedding, "_ROWS", 2)
    monkeypatch.setattr("convscope.evaluation.embedding.batch_size_for", lambda side: 2)
    found = convscope.embed(run, [folder], out=folder / "table.parquet", **QUIET)
    assert (found.n_images, found.n_features, found.skipped) == (5, 128, ())
    file = pq.ParquetFile(found.path)
    assert file.num_row_groups == 3
    table = file.read()
    assert table.column_names == ["image", "answer", "prob", "features"]
    assert str(table.schema.field("features").type) == "list<element: float>"
    answers = list(convscope.predict(run, [folder], **QUIET))
    assert table["image"].to_pylist() == [str(each.path) for each in answers]
    assert table["answer"].to_pylist() == [each.class_name for each in answers]
    wanted = [each.probs[each.class_name] for each in answers]
    np.testing.assert_allclose(table["prob"].to_numpy(), wanted, rtol=1e-4)
    model = load_model(run.weights("last"))
    before = keras.Model(model.inputs, model.get_layer("dense").output)
    np.testing.assert_allclose(
        np.array(table["features"].to_pylist()),
        before.predict_on_batch(digits.val.images[:5]),
        rtol=1e-4,
        atol=1e-5,
    )
    about = file.schema_arrow.metadata
    assert about[b"weights"] == b"last"
    assert about[b"weights_sha256"].decode() == run.weights_sha256("last")
    assert about[b"classes"].decode().split("\n") == run.class_names


def test_many_images_go_through_the_faster_engine_with_the_same_features(run, folder, monkeypatch):
    wanted = pq.read_table(convscope.embed(run, [folder], out=folder / "a.parquet", **QUIET).path)
    monkeypatch.setattr(embedding, "_MANY", 5)
    monkeypatch.setattr(inference, "_MANY_WEIGHTS", 1)
    monkeypatch.setattr(inference, "_prepared", {})
    found = pq.read_table(convscope.embed(run, [folder], out=folder / "b.parquet", **QUIET).path)
    assert len(inference._prepared) == 1
    for column in ("prob", "features"):
        np.testing.assert_allclose(
            np.array(found[column].to_pylist()), np.array(wanted[column].to_pylist()), atol=1e-4
        )


def test_answers_are_averaged_over_the_views_of_the_run(run, folder, tmp_path):
    seen = Run(tmp_path / "run")
    shutil.copytree(run.path, seen.path)
    config = seen.config_file.read_text().replace("mirror: false", "mirror: true")
    seen.config_file.write_text(config)
    for file in seen.weights_dir.glob("*.json"):
        content = json.loads(file.read_text())
        content["views"]["mirror"] = True
        file.write_text(json.dumps(content))
    found = convscope.embed(seen, [folder / "0.png"], **QUIET)
    table = pq.read_table(found.path)
    (answer,) = convscope.predict(seen, [folder / "0.png"], **QUIET)
    assert found.path == seen.embedding_file
    assert table["prob"].to_pylist() == pytest.approx([max(answer.probs.values())], rel=1e-5)
    (plain,) = convscope.predict(run, [folder / "0.png"], **QUIET)
    assert max(plain.probs.values()) != pytest.approx(max(answer.probs.values()), rel=1e-5)


def test_what_cannot_be_read_is_skipped_and_what_fails_leaves_the_old_table(
    run, folder, monkeypatch
):
    (folder / "bad.png").write_bytes(b"no image")
    # A name that is no UTF-8.
    (folder / "0.png").rename(folder / os.fsdecode(b"\xe9.png"))
    out = folder / "table.parquet"
    found = convscope.embed(run, [folder], out=out, **QUIET)
    assert [each.path.name for each in found.skipped] == ["bad.png"]
    assert sorted(pq.read_table(out)["image"].to_pylist())[-1] == f"{folder}/\\udce9.png"
    before = out.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Embedder, "embed", fail)
    with pytest.raises(StorageError, match="no space left"):
        convscope.embed(run, [folder], out=out, **QUIET)
    assert out.read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_training_image_is_most_like_itself_and_its_features_are_kept(run, folder, digits):
    Image.fromarray(digits.train.images[7].squeeze()).save(folder / "seven.png")
    first = convscope.similar(run, folder / "seven.png", top=4, **QUIET)
    assert first.picture == run.similar_picture
    assert size_of(first.picture)[0] > 400
    nearest, *others = first.neighbours
    assert nearest.image_id == digits.train.ids[7]
    assert nearest.class_name == digits.class_names[digits.train.labels[7]]
    assert nearest.similarity == pytest.approx(1, abs=1e-5)
    assert [each.similarity for each in others] == sorted(
        (each.similarity for each in others), reverse=True
    )
    assert len(others) == 3
    listener = Listener()
    again = convscope.similar(run, folder / "seven.png", top=4, progress=listener)
    assert again == first
    assert "Features of training images: found in the cache" in listener.said


def test_weights_of_a_refit_learnt_the_validation_images_too(run, digits, monkeypatch):
    embedder = Embedder(run, None)
    of_val = digits.val.images[:1]
    ((near, _),) = Neighbourhood(embedder, digits, Progress()).nearest(of_val, 1)
    assert near[0].image_id != digits.val.ids[0]
    embedder.weights = "refit"
    ((near, pixels),) = Neighbourhood(embedder, digits, Progress()).nearest(of_val, 1)
    assert near[0].image_id == digits.val.ids[0]
    np.testing.assert_array_equal(pixels, of_val)


def test_what_cannot_be_similar_is_refused(run, folder, tmp_path):
    (folder / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        convscope.similar(run, folder / "bad.png", **QUIET)
    with pytest.raises(ConfigError, match="top must be at least 1"):
        convscope.similar(run, folder / "1.png", top=0, **QUIET)
    changed = tmp_path / "run"
    shutil.copytree(run.path, changed)
    table = (changed / "split.csv").read_text()
    (changed / "split.csv").write_text(table.replace(",train,", ",val,", 1))
    with pytest.raises(DataError, match="the train images are not those of the run"):
        convscope.similar(changed, folder / "1.png", **QUIET)


def test_beside_each_image_of_the_gallery_are_training_images_like_it(run, digits):
    plain = convscope.gallery(run, n=2, **QUIET)
    _, height = size_of(run.gallery_picture)
    seen = convscope.gallery(run, n=2, similar=3, **QUIET)
    assert [each.image_id for each in seen] == [each.image_id for each in plain]
    assert not any(each.similar for each in plain)
    train = set(digits.train.ids.tolist())
    for each in seen:
        assert len(each.similar) == 3
        assert {near.image_id for near in each.similar} <= train
    # A row for each image.
    assert size_of(run.gallery_picture)[1] > 1.5 * height


def test_a_single_image_needs_no_list(run, folder):
    image = folder / "0.png"
    (said,) = convscope.predict(run, str(image), **QUIET)
    assert said.path == image
    assert convscope.embed(run, image, out=folder / "one.parquet", **QUIET).n_images == 1


@pytest.mark.parametrize(
    "call",
    [
        "convscope.evaluate({run!r}, fresh=True, test=False, progress=quiet)",
        "convscope.embed({run!r}, [{image!r}], progress=quiet)",
        "convscope.similar({run!r}, {image!r}, progress=quiet)",
    ],
)
def test_the_backend_is_chosen_before_anything_imports_keras(run, folder, call):
    code = f"""
import os, sys
import convscope
from convscope import backend
from convscope.progress import Progress

quiet, chosen = Progress(), backend.configure

def choose(*arguments):
    if not os.environ.get("KERAS_BACKEND"):
        print("Keras is there" if "keras" in sys.modules else "no Keras yet", flush=True)
        os._exit(0)  # importing it would take most of the time
    return chosen(*arguments)

backend.configure = choose
{call.format(run=str(run.path), image=str(folder / "0.png"))}
"""
    without = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=without, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no Keras yet\n"
    assert done.stderr == ""
