import os

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convscope.errors import RunError
from convscope.evaluation import predictions
from convscope.evaluation.predictions import (
    predict_images,
    predict_split,
    read_predictions,
    save_out_of_fold,
    save_predictions,
    unseen_predictions,
)
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import Predictions, Split

NAMES = ["cat", "dog", "eel, wet"]


def some_predictions(split="val", n_images=7, seed=0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        rng.dirichlet(np.ones(3), n_images).astype(np.float32),
        rng.integers(0, 3, n_images),
        np.array([f"{split}/ä {index}.png" for index in range(n_images)]),
        split,
    )


def brightness_model() -> keras.Model:
    """Two classes, dark and bright, by the mean of the first channel; any size."""
    pixels = keras.Input((None, None, 1))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
    probs = keras.layers.Dense(2, activation="softmax")(mean)
    model = keras.Model(pixels, probs)
    model.layers[-1].set_weights([np.array([[-8.0, 8.0]]), np.array([4.0, -4.0])])
    return model


def test_what_was_saved_is_read_back_to_the_bit(tmp_path):
    path = tmp_path / "predictions.parquet"
    saved = {"val": some_predictions("val", 7), "test": some_predictions("test", 4, seed=1)}
    save_predictions(saved, NAMES, path, about={"weights": "last", "weights_sha256": "abc"})
    found, metadata = read_predictions(path)
    assert set(found) == {"val", "test"}
    for name, part in saved.items():
        again = found[name]
        np.testing.assert_array_equal(again.probs, part.probs)
        np.testing.assert_array_equal(again.labels, part.labels)
        assert again.ids.tolist() == part.ids.tolist()
        assert again.split == name
        assert (again.probs.dtype, again.labels.dtype) == (np.float32, np.int64)
    assert metadata.items() >= {"weights": "last", "weights_sha256": "abc"}.items()
    assert metadata["classes"].split("\n") == NAMES
    assert os.listdir(tmp_path) == [path.name]


def test_other_tools_can_read_the_table(tmp_path):
    path = tmp_path / "predictions.parquet"
    part = some_predictions()
    save_predictions({"val": part}, NAMES, path, about={})
    table = pq.read_table(path)
    assert table.column_names == ["split", "id", "label", "prob_0", "prob_1", "prob_2"]
    assert table["id"].to_pylist() == part.ids.tolist()
    assert table["split"].unique().to_pylist() == ["val"]


def test_more_than_ten_classes_keep_their_order(tmp_path):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(12), 5).astype(np.float32)
    part = Predictions(probs, rng.integers(0, 12, 5), np.array(list("abcde")), "val")
    save_predictions({"val": part}, [f"c{i}" for i in range(12)], tmp_path / "p.parquet", about={})
    np.testing.assert_array_equal(read_predictions(tmp_path / "p.parquet")[0]["val"].probs, probs)


@pytest.mark.parametrize("damage", ["empty", "half", "text", "columns", "labels"])
def test_a_damaged_table_is_one_clear_line(tmp_path, damage):
    path = tmp_path / "predictions.parquet"
    save_predictions({"val": some_predictions()}, NAMES, path, about={})
    content = path.read_bytes()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "text":
            path.write_text("split,id,label\n")
        case "columns":
            pq.write_table(pa.table({"split": ["val"], "id": ["a"]}), path)
        case "labels":
            table = {"split": ["val"], "id": ["a"], "label": ["cat"], "prob_0": [1.0]}
            pq.write_table(pa.table(table), path)
    with pytest.raises(RunError, match=r"predictions\.parquet is damaged.*--fresh") as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["probabilities", "names", "a name", "labels"])
def test_a_small_file_does_not_fill_the_memory(tmp_path, what, monkeypatch):
    path, n_images = tmp_path / "predictions.parquet", 20_000
    table = {"split": ["val"] * n_images, "id": ["a"] * n_images, "label": [0] * n_images}
    match what:
        case "names":
            table["id"] = ["x" * 1000] * n_images
        case "a name":
            table["id"] = ["x" * 1000, *["a"] * (n_images - 1)]
        case "labels":
            del table["label"]
            table["labels"] = [[0] * 100] * n_images
    n_classes = 100 if what == "probabilities" else 1
    table |= {f"prob_{index}": np.full(n_images, 1, np.float32) for index in range(n_classes)}
    pq.write_table(pa.table(table), path, compression="zstd")
    read_predictions(path)
    monkeypatch.setattr(predictions, "FREE_BYTES", 1_000_000)
    monkeypatch.setattr(predictions, "MAX_RATIO", 20)
    with pytest.raises(RunError, match="is damaged .* more than [0-9,]+ bytes") as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


def test_batches_of_any_size_give_the_same_probabilities():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 6, 6, 1), dtype=np.uint8)
    split = Split(images, rng.integers(0, 2, 10), np.arange(10).astype(str))
    model = brightness_model()
    whole = predict_split(model, split, "val", batch_size=10, progress=Progress())
    assert whole.probs.shape == (10, 2)
    assert whole.probs.dtype == np.float32
    for batch_size in (1, 3, 100):
        part = predict_images(
            model, images, batch_size=batch_size, progress=Progress(), label="Predicting"
        )
        np.testing.assert_allclose(part, whole.probs, atol=1e-6)
    bright = images.mean(axis=(1, 2, 3)) > 127.5
    assert (whole.probs.argmax(axis=1) == bright).all()


def test_after_a_refit_what_is_fitted_sees_the_predictions_of_the_folds(tmp_path):
    run = Run.create(tmp_path / "run", "run")
    run.record(refit_after="first")
    folds = [some_predictions("train", 9), some_predictions("val", 4, seed=1)]
    together = Predictions.joined(folds, "out_of_fold")
    save_out_of_fold(run, NAMES, together)
    val = some_predictions(seed=2)
    found = unseen_predictions(run, "refit", val)
    assert found.split == "out_of_fold"
    for field in ("probs", "labels", "ids"):
        expected = np.concatenate([getattr(each, field) for each in folds])
        np.testing.assert_array_equal(getattr(found, field), expected)
    # Other weights did not learn the validation images.
    assert unseen_predictions(run, "last", val) is val
    # After further training, and a refit after that, the folds are those of another network.
    run.record(refit_after="second")
    assert unseen_predictions(run, "refit", val) is val


def test_without_folds_what_is_fitted_sees_the_validation_images(tmp_path):
    run, val = Run.create(tmp_path / "run", "run"), some_predictions()
    run.record(refit_after="first")
    assert unseen_predictions(run, "refit", val) is val
