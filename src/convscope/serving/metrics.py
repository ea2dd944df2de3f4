"""Figures of a server in the text format of Prometheus: load, speed, and the shares of classes."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from convscope.types import FloatArray

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
"""Upper ends of the intervals of the probability of the answer."""

RECENT = 1000
"""Number of answers that the share of each class of late is taken over."""


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
            "convscope_answers", "Images by the most probable class.", ["model", "class"], **labels
        )
        self.confidence = Histogram(
            "convscope_confidence",
            "Probability of the most probable class.",
            model,
            buckets=CONFIDENCES,
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
        self._models: dict[str, ModelMetrics] = {}

    def of_model(self, name: str, class_names: Sequence[str]) -> "ModelMetrics":
        """Return the metrics of a model; a new version with the same classes continues them."""
        known = self._models.get(name)
        if known is None or known.class_names != tuple(class_names):
            known = self._models[name] = ModelMetrics(self, name, tuple(class_names))
        return known

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: Path with placeholders, so that there are few.
            status: HTTP status; 499 for a client that hung up.
            seconds: Time that it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)


class ModelMetrics:
    """Metrics of one model.

    Attributes:
        counts: Number of answers by class, since the start.
        confidences: Number of answers by confidence, in the intervals that `CONFIDENCES` end.
        recent: Class indices of the last `RECENT` answers.
    """

    def __init__(self, metrics: Metrics, name: str, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.since = time.time()
        self.counts = [0] * len(class_names)
        self.confidences = [0] * len(CONFIDENCES)
        self.recent: deque[int] = deque(maxlen=RECENT)
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
        for index, confidence in zip(
            probs.argmax(axis=1).tolist(), probs.max(axis=1).tolist(), strict=True
        ):
            self.counts[index] += 1
            self.recent.append(index)
            self._classes[index].inc()
            self._confidence.observe(confidence)
            place = next((i for i, end in enumerate(CONFIDENCES) if confidence <= end), -1)
            self.confidences[place] += 1

    def shares(self) -> dict[str, object]:
        """Return the share of each class since the start and of late, and the confidences."""
        total, late = sum(self.counts), len(self.recent)
        recent = [0] * len(self.counts)
        for index in self.recent:
            recent[index] += 1
        return {
            "images": total,
            "recent_images": late,
            "classes": [
                {"class": name, "share": n / max(1, total), "recent_share": m / max(1, late)}
                for name, n, m in zip(self.class_names, self.counts, recent, strict=True)
            ],
            "confidence": [
                {"at_most": end, "share": n / max(1, total)}
                for end, n in zip(CONFIDENCES, self.confidences, strict=True)
            ],
        }
