"""Addresses of a server: `/predict`, health, metrics, and the protocol's."""

import importlib.metadata
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from convscope.classifier.classify import best_first
from convscope.errors import ImageError, ImageTooLargeError
from convscope.serving.direct import BINARY, Direct
from convscope.serving.door import App, Door
from convscope.serving.limits import (
    Limits,
    RefusedError,
    aside,
    decode_base64,
    parse_json,
    require_possible,
    whole_number,
    within,
)
from convscope.serving.metrics import Metrics
from convscope.serving.models import Models, Served
from convscope.serving.multipart import files_in
from convscope.serving.page import add_page
from convscope.serving.protocol import add_protocol
from convscope.serving.tensors import MANY_VALUES, MUCH_JSON, rounded
from convscope.types import FloatArray, UInt8Array

_MOST_TOP_K = 100_000
_PREDICT: dict[str, Any] = {
    "parameters": [
        {
            "name": "top_k",
            "in": "query",
            "description": "Number of classes in an answer, the most probable first.",
            "schema": {"type": "integer", "minimum": 1, "maximum": _MOST_TOP_K},
        },
        {"name": "model", "in": "query", "schema": {"type": "string"}},
        {"name": "version", "in": "query", "schema": {"type": "string"}},
    ],
    "requestBody": {
        "required": True,
        "content": {
            "image/*": BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": {"type": "string", "contentEncoding": "base64"},
                        }
                    },
                    "required": ["images"],
                }
            },
        },
    },
}


def build_app(
    models: Models,
    limits: Limits,
    metrics: Metrics,
    *,
    api_key: str | None = None,
    hosts: Collection[str] | None = None,
    origins: Collection[str] = (),
    top_k: int | None = None,
    log_requests: bool = True,
    on_load: Callable[[], None] | None = None,
) -> App:
    """Return the ASGI application of a server.

    Args:
        models: Models, loaded or about to be.
        limits: Limits of requests.
        metrics: Metrics of the server.
        api_key: Key that clients have to send; None lets everybody in.
        hosts: Names under which the server may be addressed; None allows all.
        origins: Names of sites whose pages may send requests, besides the one that is addressed.
        top_k: Number of classes in an answer of `/predict`; None for all.
        log_requests: Whether each request is a line in the log.
        on_load: Called once a client had the files of a model read again.
    """
    # FastAPI's own pages load scripts from another host.
    app = FastAPI(
        title="convscope",
        version=importlib.metadata.version("convscope"),
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _refused_by_starlette)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)

    direct = Direct(app)

    @direct.post("/predict", openapi_extra=_PREDICT, summary="Classify an image, or several")
    async def predict(request: Request) -> Response:
        query = request.query_params
        _require_known(query)
        k = _top_k(query.get("top_k"))
        served = models.get(query.get("model"), query.get("version"))
        kind = request.headers.get("content-type", "")
        body = await request.body()
        async with within(limits):
            much, most = len(body) > MUCH_JSON, served.batcher.queue
            images = await aside(images_in, body, kind, most, much=much)
            request.state.facts = {"model": served.name, "images": len(images)}
            return await _classify(served, images, k or top_k)

    @app.get("/healthz", summary="Whether every model can answer")
    async def healthz() -> Response:
        states = {name: models.ready(name) for name in models.names}
        ready = models.ready()
        return JSONResponse({"ready": ready, "models": states}, 200 if ready else 503)

    @app.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def figures() -> Response:
        metrics.forget_comparisons()
        for name in models.names:
            metrics.ready.labels(name).set(models.ready(name))
            versions = list(models.versions(name).values())
            metrics.queue.labels(name).set(sum(each.batcher.in_flight for each in versions))
            for newest in versions[-1:]:
                metrics.compare(name, newest.metrics, newest.spec.val_shares)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    add_protocol(app, direct, models, limits, on_load)
    add_page(app, models, limits)
    return Door(
        direct,
        limits=limits,
        metrics=metrics,
        api_key=api_key,
        hosts=hosts,
        origins=origins,
        log_requests=log_requests,
    )


def _require_known(query: Iterable[str]) -> None:
    """Refuse names in the query that mean nothing here, such as a misspelt one.

    Raises:
        RefusedError: If there are any (422).
    """
    names = [each["name"] for each in _PREDICT["parameters"]]
    for name in query:
        if name not in names:
            raise RefusedError(422, f"there is no '{name[:64]}'; there are: {', '.join(names)}")


def _top_k(text: str | None) -> int | None:
    """Return the number of classes that a request asks for.

    Raises:
        RefusedError: If it is none (422).
    """
    if text is None:
        return None
    number = whole_number(text, _MOST_TOP_K)
    if not number:
        raise RefusedError(422, f"top_k: a whole number from 1 to {_MOST_TOP_K}")
    return number


def images_in(body: bytes, content_type: str, most: int) -> list[tuple[str | None, bytes]]:
    """Return the images in a request, each with the name of its file if it has one.

    Args:
        body: A form with files, JSON with base64, or the bytes of one image.
        content_type: Header "content-type".
        most: Largest number of images in a request.

    Raises:
        RefusedError: If there is none (400), or there are too many (413).
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        raise RefusedError(400, "the body is empty; send the bytes of an image")
    if kind == "multipart/form-data":
        return list(files_in(body, content_type))
    if kind == "application/json":
        return [(None, image) for image in _from_json(body, most)]
    return [(None, body)]


def _from_json(body: bytes, most: int) -> list[bytes]:
    content = parse_json(body)
    images = content.get("images", [content["image"]] if "image" in content else None)
    if not isinstance(images, list) or not images:
        raise RefusedError(400, 'the JSON needs "images": [...], each an image file in base64')
    require_possible(len(images), most)
    return [decode_base64(each, f"image {number}") for number, each in enumerate(images, 1)]


async def _classify(
    served: Served, images: list[tuple[str | None, bytes]], top_k: int | None
) -> Response:
    with served.batcher.admitted(len(images)):
        decoded = await served.decode([content for _, content in images])
        pixels = [each for each in decoded if not isinstance(each, ImageError)]
        served.metrics.unreadable(len(decoded) - len(pixels))
        if not pixels:
            too_large = all(isinstance(each, ImageTooLargeError) for each in decoded)
            raise RefusedError(413 if too_large else 400, str(decoded[0]))
        probs, rejected = await served.predict(pixels)
        names, much = [name for name, _ in images], probs.size > MANY_VALUES
        body = await aside(_written, served, names, decoded, probs, rejected, top_k, much=much)
    return Response(body, media_type="application/json")


def _written(
    served: Served,
    names: Sequence[str | None],
    decoded: "Sequence[UInt8Array | ImageError]",
    probs: FloatArray,
    rejected: Sequence[bool],
    top_k: int | None,
) -> bytes:
    """Return the body of an answer; images that could not be decoded have no row in `probs`."""
    rows = zip(probs, rejected, strict=True)
    texts = [
        _json({"image": name, "error": str(each)})
        if isinstance(each, ImageError)
        else _json({"image": name, **answer(served, *next(rows), top_k)})
        for name, each in zip(names, decoded, strict=True)
    ]
    head = {"model": served.name, "version": served.version, "predictions": []}
    # Image by image: the writer of JSON itself lets no other thread in.
    return f"{_json(head)[:-2]}{','.join(texts)}]}}".encode()


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def answer(
    served: Served, probs: FloatArray, rejected: bool, top_k: int | None
) -> dict[str, object]:
    """Return the answer for an image from its row of probabilities, shape (n_classes,).

    Its "class"; where an image may have any number of classes, a list of "classes".

    Args:
        served: Model.
        probs: Shape (n_classes,).
        rejected: Whether the image looks like no class.
        top_k: Number of classes, the most probable first; None for all.
    """
    names, spec = served.spec.class_names, served.spec
    best = best_first(probs)[:top_k]
    # float32 has seven digits that mean something.
    by_name = dict(zip([names[index] for index in best], rounded(probs[best], 7), strict=True))
    if spec.multi_label:
        said = served.classifier.answer(None, probs, rejected=rejected)
        return {"classes": list(said.class_names), "rejected": rejected, "probs": by_name}
    return {"class": names[best[0]], "rejected": rejected, "probs": by_name}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse({"error": error.text}, error.status, headers)


async def _refused_by_starlette(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: "there is nothing at this address", 405: "this address takes another method"}
    said = text.get(error.status_code, "the request cannot be answered")
    return JSONResponse({"error": said}, error.status_code, dict(error.headers or {}))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = str(first["loc"][-1])[:40]
    return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)


async def _failed(request: Request, error: Exception) -> Response:
    # The door writes the traceback into the log.
    text = f"the server failed; its log says why, at request {request.state.request_id}"
    return JSONResponse({"error": text}, 500)
