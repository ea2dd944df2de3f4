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
    max_body_mb: float = 32.0,
    max_megapixels: float = 50.0,
    allow_host: str | Sequence[str] = (),
    reject: bool = False,
    top_k: int | None = None,
    engine: str = "onnxruntime",
    threads: int | None = None,
    log_requests: bool = True,
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
        max_body_mb: Largest body of a request, in MB.
        max_megapixels: Largest image, in millions of pixels.
        allow_host: Names of other sites whose pages may send requests.
        reject: Whether images that look like no class are rejected.
        top_k: Number of classes in an answer; None for all.
        engine: Registered engine ("onnxruntime", "openvino"), or "auto": the fastest here.
        threads: Threads of the engine for a batch; None takes one for a small network, else all
            usable cores. A `convscope.Classifier` keeps its own, and its engine.
        log_requests: Whether each request is a line in the log "convscope.serving", at level INFO.

    Raises:
        ConfigError: If the key is empty.
        ConvscopeError: If a model cannot be loaded.
    """
    from convscope.registry import listed
    from convscope.serving.application import build_app
    from convscope.serving.door import usable_key
    from convscope.serving.limits import limits_of
    from convscope.serving.metrics import Metrics
    from convscope.serving.models import Models, Settings, sources_of

    api_key = usable_key(api_key)
    settings = Settings(
        engine=engine,
        threads=threads,
        max_batch=max_batch,
        queue=queue,
        reject=reject,
        limits=limits_of(max_body_mb, max_megapixels, deadline_ms),
    )
    metrics = Metrics()
    loaded = Models(sources_of(models), settings, metrics)
    loaded.load_all()
    return build_app(
        loaded,
        settings.limits,
        metrics,
        api_key=api_key,
        origins={name.lower() for name in listed(allow_host)},
        top_k=top_k,
        log_requests=log_requests,
    )
