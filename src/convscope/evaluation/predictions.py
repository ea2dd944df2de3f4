"""Predictions of a model, and their file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.classifier.views import Network
from convscope.errors import RunError
from convscope.parquet import read_batches
from convscope.progress import Progress
from convscope.run import Run
from convscope.storage import atomic_path
from convscope.types import (
    FloatArray,
    Images,
    Labels,
    Predictions,
    Split,
    classes_of,
)

FREE_BYTES = 2**30
"""Unpacked size of predictions up to which any file is read."""

MAX_RATIO = 200
"""Largest ratio of the unpacked size to that of the file, above `FREE_BYTES`; probabilities hardly
compress, but may all be the same."""


def predict_images(
    model: Network,
    images: Images | FloatArray,
    *,
    batch_size: int,
    progress: Progress,
    label: str,
) -> FloatArray:
    """Return class probabilities, batch by batch.

    Args:
        model: Model from what `images` holds to probabilities.
        images: Raw pixels, shape (n_images, height, width, channels), uint8; for a head, features
            of shape (n_images, ...). May be memory-mapped.
        batch_size: Images per batch.
        progress: Called with each batch.
        label: Name of the work in progress output.

    Returns:
        Shape (n_images, n_classes), float32.
    """
    parts: list[FloatArray] = []
    with progress.task(label, len(images), "images") as step:
        for start in range(0, len(images), batch_size):
            batch = np.ascontiguousarray(images[start : start + batch_size])
            parts.append(np.asarray(model.predict_on_batch(batch), dtype=np.float32))
            step(len(batch))
    return np.concatenate(parts)


def predict_split(
    model: Network, split: Split, name: str, *, batch_size: int, progress: Progress
) -> Predictions:
    """Return a model's predictions on the split called `name` ("val" or "test")."""
    probs = predict_images(
        model,
        split.images,
        batch_size=batch_size,
        progress=progress,
        label=f"Predicting the {name} images",
    )
    return Predictions(probs, split.labels, split.ids, name, split.groups)


def save_predictions(
    predictions: Mapping[str, Predictions],
    class_names: list[str],
    path: Path,
    *,
    about: dict[str, str],
) -> None:
    """Write predictions as a Parquet table, a row per image.

    Columns: `split`, `id`, `label` (class index) or, where an image may have any number of classes,
    `labels` (list of class indices), then `prob_<class index>`; `group`, if there are groups.

    Args:
        predictions: Predictions by split.
        class_names: Class names, kept in the metadata of the table.
        path: File to replace as a whole.
        about: Further metadata, such as the model that made the predictions.

    Raises:
        StorageError: If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = list(predictions.values())
    said = Predictions.joined(parts, "all")
    columns: dict[str, Any] = {
        "split": np.concatenate([np.full(len(part.labels), part.split) for part in parts]),
        "id": said.ids,
    }
    if said.multi_label:
        columns["labels"] = pa.array(
            [list(classes_of(row)) for row in said.labels], pa.list_(pa.int64())
        )
    else:
        columns["label"] = said.labels
    columns |= {f"prob_{index}": said.probs[:, index] for index in range(len(class_names))}
    if said.groups is not None:
        columns["group"] = said.groups
    table = pa.table(columns).replace_schema_metadata(about | {"classes": "\n".join(class_names)})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def save_out_of_fold(run: Run, class_names: Sequence[str], predictions: Predictions) -> None:
    """Keep predictions for images that a refit learns, each by a network without that image.

    Args:
        run: Run of the refit, or the trained run before that.
        class_names: Names in the order of the labels.
        predictions: Predictions of the split "out_of_fold".

    Raises:
        StorageError: If the file cannot be written.
    """
    after = run.state.get("refit_after") or run.weights_sha256("last")
    about = {"refit_after": str(after)}
    save_predictions(
        {predictions.split: predictions}, list(class_names), run.out_of_fold_file, about=about
    )


def unseen_predictions(run: Run, which: str, val: Predictions) -> Predictions:
    """Return predictions for images that the network behind each had not learnt.

    For what is fitted to predictions, such as the temperature.

    Args:
        run: Evaluated run.
        which: Weights that are evaluated.
        val: Predictions for the validation images, by weights that did not learn them.

    Returns:
        After a refit those of the folds, if there are any; otherwise `val`.

    Raises:
        RunError: If the file is damaged.
    """
    if which != "refit" or not run.out_of_fold_file.exists():
        return val
    found, about = read_predictions(run.out_of_fold_file)
    if about.get("refit_after") != run.state.get("refit_after"):
        return val
    return found.get("out_of_fold", val)


def read_predictions(path: Path) -> tuple[dict[str, Predictions], dict[str, str]]:
    """Read the table that `save_predictions` wrote.

    Returns:
        Predictions by split, and the metadata.

    Raises:
        RunError: If the file is damaged, or so small that it would unpack to no real predictions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        most = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
        table = pa.Table.from_batches(read_batches(path, schema.names, max_bytes=most))
        names = _texts(table["split"].to_pylist(), most)
        ids = _texts(table["id"].to_pylist(), most)
        n_classes = sum(name.startswith("prob_") for name in table.column_names)
        probs = np.stack(
            [table[f"prob_{index}"].to_numpy() for index in range(n_classes)], axis=1
        ).astype(np.float32)
        groups = None
        if "group" in table.column_names:
            groups = _texts(table["group"].to_pylist(), most)
        labels: Labels
        if "labels" in table.column_names:
            labels = np.zeros(probs.shape, np.uint8)
            for row, indices in enumerate(table["labels"].to_pylist()):
                if min(indices, default=0) < 0:
                    raise ValueError("a label is no class")
                labels[row, indices] = 1
        else:
            labels = table["label"].to_numpy().astype(np.int64)
            if labels.min(initial=0) < 0 or labels.max(initial=0) >= n_classes:
                raise ValueError("a label is no class")
    except (OSError, LookupError, TypeError, ValueError, pa.ArrowException) as error:
        raise RunError(f"{path} is damaged ({error}); run evaluate again with --fresh") from None
    found = {
        str(name): Predictions(
            probs[names == name],
            labels[names == name],
            ids[names == name],
            str(name),
            None if groups is None else groups[names == name],
        )
        for name in np.unique(names)
    }
    return found, metadata


def _texts(texts: Sequence[str], most: int) -> npt.NDArray[np.str_]:
    """Return texts as an array, in which each takes as much as the longest."""
    if 4 * len(texts) * max(map(len, texts), default=0) > most:
        raise ValueError(f"its names take more than {most:,} bytes")
    return np.asarray(texts)
