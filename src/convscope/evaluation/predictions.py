"""What a model says about images, and how that is kept."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.classifier.views import Classifier, MeanOverViews
from convscope.errors import ImageError, RunError
from convscope.evaluation.calibration import at_temperature
from convscope.images.decode import decode_image
from convscope.models.saving import load_portable
from convscope.progress import Progress
from convscope.recipe import RunConfig, TtaSettings
from convscope.storage import atomic_path
from convscope.types import (
    FloatArray,
    ImagePrediction,
    ImageView,
    InputSpec,
    Predictions,
    Split,
    UInt8Array,
    UnreadableImage,
)
from convscope.wording import command_line

if TYPE_CHECKING:
    import keras


def load_model(path: Path) -> "keras.Model":
    """Load a saved model for inference.

    Args:
        path: The file.

    Raises:
        RunError: If the file is missing or damaged.
    """
    if not path.is_file():
        raise RunError(
            f"there is no saved model {path}; train first, or continue an interrupted run with "
            f"{command_line('train', '--resume', path.parent.parent)}"
        )
    try:
        return load_portable(path)
    except Exception as error:  # Keras raises whatever its parts raise on a damaged file.
        reason = str(error).strip().split("\n")[0][:200]
        raise RunError(f"the saved model {path} is damaged: {reason}") from error


def load_classifier(path: Path, tta: TtaSettings) -> Classifier:
    """Load a saved model that answers with the mean over views of an image.

    Args:
        path: The file.
        tta: Which views.

    Raises:
        RunError: If the file is missing or damaged.
    """
    model: Classifier = load_model(path)
    return model if tta == TtaSettings() else MeanOverViews(model, tta)


def predict_images(
    model: Classifier,
    images: UInt8Array | FloatArray | ImageView,
    *,
    batch_size: int,
    progress: Progress,
    label: str,
) -> FloatArray:
    """Return class probabilities, batch by batch.

    Args:
        model: Takes what `images` holds, gives probabilities.
        images: Raw pixels, shape (n_images, height, width, channels), uint8; for a head, features
            of shape (n_images, ...). May be memory-mapped.
        batch_size: Images at a time.
        progress: Told of each batch.
        label: What the progress is called.

    Returns:
        Shape (n_images, n_classes), float32, rows sum to 1.
    """
    parts: list[FloatArray] = []
    with progress.task(label, len(images), "images") as step:
        for start in range(0, len(images), batch_size):
            batch = np.ascontiguousarray(images[start : start + batch_size])
            parts.append(np.asarray(model.predict_on_batch(batch), dtype=np.float32))
            step(len(batch))
    return np.concatenate(parts)


def predict_split(
    model: Classifier, split: Split, name: str, *, batch_size: int, progress: Progress
) -> Predictions:
    """Return what a model says about the split called `name` ("val" or "test")."""
    probs = predict_images(
        model,
        split.images,
        batch_size=batch_size,
        progress=progress,
        label=f"Predicting the {name} images",
    )
    return Predictions(probs, split.labels, split.ids, name)


def predict_from_features(
    model: "keras.Model",
    config: RunConfig,
    spec: InputSpec,
    split: Split,
    name: str,
    *,
    batch_size: int,
    progress: Progress,
) -> Predictions:
    """Return what a saved classifier with a frozen backbone says, by way of the features' cache.

    The backbone is the saved model's own; where training or another run with the same backbone has
    seen the same images, it need not run again. The answers are those of the model on the pixels,
    to float32 rounding.

    Args:
        model: Loaded from the run; float32.
        config: The run's settings, with `backbone.cut` "end".
        spec: What the backbone sees.
        split: The images.
        name: "val" or "test".
        batch_size: Features at a time.
        progress: Told of each batch.
    """
    import keras

    from convscope.models.transfer import POOL
    from convscope.training.frozen import pooled_features

    pool = model.get_layer(POOL).output
    lower, head = keras.Model(model.inputs, pool), keras.Model(pool, model.outputs[0])
    label = f"Features of {'validation' if name == 'val' else name} images"
    features = pooled_features(lower, config, spec, split, label, progress).array
    # A head takes no time that would be worth a line.
    probs = predict_images(head, features, batch_size=batch_size, progress=Progress(), label=label)
    return Predictions(probs, split.labels, split.ids, name)


def predict_files(
    model: Classifier,
    files: Sequence[Path],
    spec: InputSpec,
    class_names: list[str],
    *,
    temperature: float = 1.0,
    batch_size: int,
    progress: Progress,
) -> Iterator[ImagePrediction | UnreadableImage]:
    """Classify image files, in batches, as they are read.

    Args:
        model: Takes raw pixels, gives probabilities.
        files: The images.
        spec: The size and channels to which files are decoded: those of the images that the model
            learnt from.
        class_names: In the order of the model's outputs.
        temperature: Of the probabilities; see `calibration.at_temperature`.
        batch_size: Images at a time.
        progress: Told of each batch.

    Yields:
        For each file in order, its prediction, or why it could not be read.
    """
    with progress.task("Predicting", len(files), "images") as step:
        for start in range(0, len(files), batch_size):
            images: list[UInt8Array] = []
            outcomes: list[UnreadableImage | None] = []
            batch = files[start : start + batch_size]
            for file in batch:
                try:
                    # The decoder that training used, so both see the same pixels.
                    size = (spec.height, spec.width)
                    images.append(decode_image(file, channels=spec.channels, size=size))
                    outcomes.append(None)
                except ImageError as error:
                    outcomes.append(UnreadableImage(file, str(error)))
            probs = np.zeros((0, len(class_names)), np.float32)
            if images:
                said = np.asarray(model.predict_on_batch(np.stack(images)), np.float32)
                probs = at_temperature(said, temperature)
            rows = iter(probs)
            for file, unreadable in zip(batch, outcomes, strict=True):
                if unreadable is not None:
                    yield unreadable
                else:
                    numbers = map(float, next(rows))
                    yield ImagePrediction(file, dict(zip(class_names, numbers, strict=True)))
            step(len(batch))


def save_predictions(
    predictions: Mapping[str, Predictions],
    class_names: list[str],
    path: Path,
    *,
    about: dict[str, str],
) -> None:
    """Write predictions as a Parquet table, a row per image.

    Columns: `split`, `id`, `label` (class index), then `prob_<class index>`.

    Args:
        predictions: By split.
        class_names: Kept in the table's metadata.
        path: The file; replaced as a whole.
        about: Further metadata, such as whose predictions these are.

    Raises:
        StorageError: If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = list(predictions.values())
    columns: dict[str, Any] = {
        "split": np.concatenate([np.full(len(part.labels), part.split) for part in parts]),
        "id": np.concatenate([part.ids for part in parts]),
        "label": np.concatenate([part.labels for part in parts]),
    }
    probs = np.concatenate([part.probs for part in parts])
    columns |= {f"prob_{index}": probs[:, index] for index in range(len(class_names))}
    table = pa.table(columns).replace_schema_metadata(about | {"classes": "\n".join(class_names)})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_predictions(path: Path) -> tuple[dict[str, Predictions], dict[str, str]]:
    """Read the table that `save_predictions` wrote.

    Returns:
        Predictions by split, and the metadata.

    Raises:
        RunError: If the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        metadata = {
            key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
        }
        names = np.asarray(table["split"].to_pylist())
        ids = np.asarray(table["id"].to_pylist())
        labels = table["label"].to_numpy().astype(np.int64)
        n_classes = sum(name.startswith("prob_") for name in table.column_names)
        probs = np.stack(
            [table[f"prob_{index}"].to_numpy() for index in range(n_classes)], axis=1
        ).astype(np.float32)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise RunError(f"{path} is damaged ({error}); run evaluate again with --fresh") from None
    found = {
        str(name): Predictions(
            probs[names == name], labels[names == name], ids[names == name], str(name)
        )
        for name in np.unique(names)
    }
    return found, metadata
