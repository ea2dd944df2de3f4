"""Answers over HTTP, with exported models: no framework.

`batcher.py` joins images of many requests, `models.py` holds the models, `door.py` lets requests
in, `application.py` and `protocol.py` have the addresses, `server.py` runs it all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convscope.serving.models import Given


def app(
    models: "Given | Sequence[Given] | Mapping[str, Given]",
    *,
    api_key: str | None = None,
    max_batch: int | None = None,
    queue: int = 512,
    deadline_ms: float = 10_000.0,
    reject: bool = False,
    top_k: int | None = None,
) -> "Callable[..., Any]":
    """Return a server of models as an ASGI application, to run or to mount in another one.

    For example, in `main.py`, to be run with `uvicorn main:app`:

        from convscope.serving import app as serve

        app = serve("cats.onnx")

    Args:
        models: Path of an exported file or of a folder of versions, a `convscope.Classifier`, or
            several of these; a mapping gives them names.
        api_key: Key that clients have to send; None lets everybody in.
        max_batch: Largest number of images in a batch; None takes as many as the engine answers in
            25 ms, at most 32.
        queue: Largest number of images that wait or are being answered, for each model.
        deadline_ms: Milliseconds from the arrival of a request to its answer.
        reject: Whether images that look like no class are rejected.
        top_k: Number of classes in an answer; None for all.

    Raises:
        ConfigError: If the key is empty.
        ConvscopeError: If a model cannot be loaded.
    """
    from convscope.serving.application import build_app
    from convscope.serving.door import usable_key
    from convscope.serving.limits import Limits
    from convscope.serving.metrics import Metrics
    from convscope.serving.models import Models, Settings, sources_of

    api_key = usable_key(api_key)
    settings = Settings(
        max_batch=max_batch, queue=queue, reject=reject, limits=Limits(deadline_ms=deadline_ms)
    )
    metrics = Metrics()
    loaded = Models(sources_of(models), settings, metrics)
    loaded.load_all()
    return build_app(loaded, settings.limits, metrics, api_key=api_key, top_k=top_k)
