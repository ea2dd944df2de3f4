"""Figures of a server in the text format of Prometheus: load, speed, and the shares of classes."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from convscope.classifier.shares import CONFIDENCES, Shares, drift, interval_of, named
from convscope.types import FloatArray

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

RECENT = 1000
"""Number of answers that the shares of late are taken over."""


class Metrics:
    """Metrics of one server."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        model = ["model"]
        labels: dict[str, Any] = {"registry": registry}
        self._requests = Counter("convscope_requests", "Requests.", ["route", "status"], **labels)
        self._seconds = Histogram(
            "convscope_request_seconds",
            "From the first byte of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            **labels,
        )
        self.in_progress = Gauge("convscope_requests_in_progress", "Requests.", **labels)
        self.images = Counter("convscope_images", "Images that were answered.", model, **labels)
        self.rejected = Counter(
            "convscope_rejected", "Images that look like no class.", model, **labels
        )
        self.unreadable = Counter(
            "convscope_unreadable", "Images that could not be read.", model, **labels
        )
        self.classes = Counter(
            "convscope_answers",
            "Images whose answer names the class.",
            ["model", "class"],
            **labels,
        )
        self.confidence = Histogram(
            "convscope_confidence",
            "Probability of the most probable class.",
            model,
            buckets=CONFIDENCES,
            **labels,
        )
        self._val_classes = Gauge(
            "convscope_val_answers",
            "Share of the validation images whose answer names the class.",
            ["model", "class"],
            **labels,
        )
        self._val_confidence = Gauge(
            "convscope_val_confidence",
            "Share of the validation images whose largest probability is at most this.",
            ["model", "le"],
            **labels,
        )
        self._drift = Gauge(
            "convscope_drift",
            f"Least part of the last {RECENT} answers that would have to be others, 0 to 1, for "
            "their shares to be those on validation images; large by chance if they are few.",
            ["model", "of"],
            **labels,
        )
        self.batch_images = Histogram(
            "convscope_batch_images", "Images in a batch.", model, buckets=_SIZES, **labels
        )
        self.engine_seconds = Histogram(
            "convscope_engine_seconds",
            "Time of the engine for a batch.",
            model,
            buckets=_SECONDS,
            **labels,
        )
        self.queue = Gauge(
            "convscope_queue_images", "Images that are not yet answered.", model, **labels
        )
        self.ready = Gauge("convscope_ready", "1 if the model can answer.", model, **labels)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: Path with placeholders, so that there are few.
            status: HTTP status; 499 for a client that hung up.
            seconds: Time that it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def forget_comparisons(self) -> None:
        """Drop what `compare` set: a model may have been replaced by one of other classes."""
        for each in (self._val_classes, self._val_confidence, self._drift):
            each.clear()

    def compare(self, name: str, found: "ModelMetrics", usual: Shares) -> None:
        """Set what compares a model's answers of late with those on validation images.

        Args:
            name: Name of the model.
            found: Its metrics.
            usual: Shares on validation images; nothing is compared if they are unknown.
        """
        if not usual.n_images:
            return
        for each, share in zip(found.class_names, usual.classes, strict=True):
            self._val_classes.labels(name, each).set(share)
        total = 0.0
        for end, share in zip(CONFIDENCES, usual.confidences, strict=True):
            total += share
            self._val_confidence.labels(name, str(float(end))).set(total)
        for of, value in found.drift(usual).items():
            self._drift.labels(name, of).set(value)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class ModelMetrics:
    """Metrics of one version of a model, as it was loaded.

    What Prometheus counts goes on when the model is loaded anew; what is compared with its
    validation images begins again.

    Args:
        metrics: Metrics of the server.
        name: Name of the model.
        class_names: Names in the order of the probabilities.
        thresholds: Threshold of each class, where an image may have any number of classes.

    Attributes:
        n_images: Number of images that were answered.
        counts: Number of answers by class.
        confidences: Number of answers by confidence, in the intervals that `CONFIDENCES` end.
        recent: Indices of the classes and of the interval of confidence of the last `RECENT`
            answers.
    """

    def __init__(
        self,
        metrics: Metrics,
        name: str,
        class_names: Sequence[str],
        thresholds: Sequence[float] = (),
    ) -> None:
        self.class_names = tuple(class_names)
        self.thresholds = tuple(thresholds)
        self.n_images = 0
        self.counts = [0] * len(class_names)
        self.confidences = [0] * len(CONFIDENCES)
        self.recent: deque[tuple[list[int], int]] = deque(maxlen=RECENT)
        self._images = metrics.images.labels(name)
        self._rejected = metrics.rejected.labels(name)
        self._unreadable = metrics.unreadable.labels(name)
        self._classes = [metrics.classes.labels(name, each) for each in class_names]
        self._confidence = metrics.confidence.labels(name)
        self._batch_images = metrics.batch_images.labels(name)
        self._engine_seconds = metrics.engine_seconds.labels(name)

    def batch(self, n_images: int, seconds: float) -> None:
        """Count a batch of the engine."""
        self._batch_images.observe(n_images)
        self._engine_seconds.observe(seconds)

    def unreadable(self, n_images: int) -> None:
        """Count images that could not be read."""
        self._unreadable.inc(n_images)

    def answers(self, probs: FloatArray, rejected: Sequence[bool]) -> None:
        """Count answers.

        Args:
            probs: Shape (n_images, n_classes).
            rejected: Whether each image is rejected.
        """
        self._images.inc(len(probs))
        self._rejected.inc(sum(rejected))
        self.n_images += len(probs)
        said = named(probs, self.thresholds)
        for indices, confidence in zip(said, probs.max(axis=1).tolist(), strict=True):
            place = interval_of(confidence)
            self.confidences[place] += 1
            self.recent.append((indices, place))
            for index in indices:
                self.counts[index] += 1
                self._classes[index].inc()
            self._confidence.observe(confidence)

    def drift(self, usual: Shares) -> dict[str, float]:
        """Return by how much the answers of late differ from others, by "classes", "confidence".

        Args:
            usual: Shares on validation images.

        Returns:
            Empty if they are unknown, or there are no answers yet; see `classifier.shares.drift`.
        """
        if not usual.n_images or not self.recent:
            return {}
        classes, confidences = self._recent_shares()
        return {
            "classes": drift(classes, usual.classes, exclusive=not self.thresholds),
            "confidence": drift(confidences, usual.confidences),
        }

    def shares(self, usual: Shares) -> dict[str, object]:
        """Return the shares of classes and confidences: of all answers, of late, and usual ones.

        Args:
            usual: Shares on validation images.
        """
        total = self.n_images
        recent_classes, recent_confidences = self._recent_shares()
        # Null if they are unknown.
        val_classes = usual.classes or (None,) * len(self.counts)
        val_confidences = usual.confidences or (None,) * len(CONFIDENCES)
        classes = zip(self.class_names, self.counts, recent_classes, val_classes, strict=True)
        confidences = zip(
            CONFIDENCES, self.confidences, recent_confidences, val_confidences, strict=True
        )
        return {
            "images": total,
            "recent_images": len(self.recent),
            "val_images": usual.n_images,
            "drift": self.drift(usual),
            "classes": [
                {"class": name, "share": n / max(1, total), "recent_share": m, "val_share": usually}
                for name, n, m, usually in classes
            ],
            "confidence": [
                {
                    "at_most": end,
                    "share": n / max(1, total),
                    "recent_share": m,
                    "val_share": usually,
                }
                for end, n, m, usually in confidences
            ],
        }

    def _recent_shares(self) -> tuple[list[float], list[float]]:
        classes, confidences = [0] * len(self.counts), [0] * len(CONFIDENCES)
        for indices, place in self.recent:
            confidences[place] += 1
            for index in indices:
                classes[index] += 1
        late = max(1, len(self.recent))
        return [n / late for n in classes], [n / late for n in confidences]
