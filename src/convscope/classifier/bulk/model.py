"""A model for many images: a run, or an exported file in this process or in many workers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convscope.classifier import classify
from convscope.classifier.exported import Classifier, read_onnx
from convscope.classifier.spec import ClassifierSpec
from convscope.engines.choice import REFERENCE
from convscope.errors import ConfigError
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import ImagePrediction, PackedImage, UnreadableImage
from convscope.wording import command_line

if TYPE_CHECKING:
    from convscope.classifier.bulk.pool import Pool


@dataclass(frozen=True)
class ExportOptions:
    """What an exported file is to classify with, as `predict` was told; None where it was not."""

    engine: str | None
    workers: int | None
    threads: int | None
    ray: str | None
    memory_gb: float | None

    def require_none_for(self, run: Run) -> None:
        """Reject them for a run.

        Raises:
            ConfigError: If there are any.
        """
        for option, value in (
            ("--engine", self.engine),
            ("--workers", self.workers),
            ("--threads", self.threads),
            ("--ray", self.ray),
        ):
            if value is not None:
                raise ConfigError(
                    f"{option} is for exported files, and a run is opened with Keras; first: "
                    f"{command_line('export', run.path)}"
                )


@dataclass(frozen=True)
class BulkModel:
    """A model that is ready to classify.

    Attributes:
        classifier: Classifier in this process.
        identity: Text that differs between models whose answers may differ.
        pool: Workers that classify instead, if there are any.
    """

    classifier: classify.Classifier
    identity: str
    pool: "Pool | None" = None

    @property
    def spec(self) -> ClassifierSpec:
        """Spec of the classifier."""
        return self.classifier.spec

    def predict(
        self,
        files: Iterable[Path | PackedImage],
        total: int | None,
        *,
        batch_size: int,
        reject: bool,
        live: bool,
        progress: Progress,
    ) -> Iterator[ImagePrediction | UnreadableImage]:
        """Classify image files as `Classifier.predict_files` does, here or in the workers.

        Workers reject, or do not, as they were ordered to when the model was opened; they answer
        in batches, live or not.
        """
        if self.pool is None:
            return self.classifier.predict_files(
                files, total, batch_size=batch_size, progress=progress, reject=reject, live=live
            )
        from convscope.classifier.bulk.pool import predict_in_pool

        return predict_in_pool(
            files,
            total,
            pool=self.pool,
            spec=self.spec,
            batch_size=batch_size,
            progress=progress,
        )


def open_exported(
    file: str, options: ExportOptions, *, reject: bool, progress: Progress
) -> BulkModel:
    """Open an exported file, and the pool of workers that are asked for.

    Args:
        file: Path of the file.
        options: What to classify with.
        reject: Whether images that look like no class are rejected.
        progress: Called with the engine that was chosen, and with the nodes of a cluster.

    Raises:
        RunError: If the file cannot be used.
        ConfigError: If there is no cluster at the address, or settings do not go together.
    """
    many = options.workers is not None or options.ray is not None
    classifier = Classifier(
        file,
        engine=options.engine or REFERENCE,
        threads=1 if many and options.threads is None else options.threads,
        progress=progress,
    )
    if not many:
        return BulkModel(classifier, classifier.sha256)
    from convscope.classifier.bulk.on_ray import RayTasks
    from convscope.classifier.bulk.processes import Processes
    from convscope.classifier.bulk.worker import Order

    order = Order(classifier.sha256, classifier.engine, options.threads or 1, reject)
    content, _ = read_onnx(classifier.path)
    pool: Pool
    if options.ray is None:
        pool = Processes(order, content, options.workers or 1)
    else:
        pool = RayTasks(
            order,
            content,
            options.ray,
            n_workers=options.workers,
            memory_gb=options.memory_gb,
            progress=progress,
        )
    return BulkModel(classifier, classifier.sha256, pool)


def open_run(run: Run, weights: str | None, *, reject: bool, progress: Progress) -> BulkModel:
    """Open weights of a run, which needs Keras.

    Args:
        run: Run.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        reject: Whether images that look like no class are rejected.
        progress: Told if nobody evaluated these weights.

    Raises:
        RunError: If there are no such weights.
    """
    from convscope.classifier.keras_model import open_classifier, unevaluated_note

    classifier = open_classifier(run, weights, reject=reject)
    if note := unevaluated_note(run, weights):
        progress.say(note)
    spec = classifier.spec
    identity = f"{spec.weights_sha256} at {spec.temperature}"
    if spec.multi_label:
        identity += f", thresholds {spec.thresholds}"
    return BulkModel(classifier, identity)
