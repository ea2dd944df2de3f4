"""The Open Inference Protocol, version 2, with the extensions for binary tensors and repositories.

Images come as pixels (UINT8) or as files (BYTES: JPEG, PNG, ...). Answers are
probabilities, class names, and what else the model computes (logits, features): all of them, as the
protocol says, unless the request names those that it wants. Extensions are those of Triton:
binary tensors, classification ("0.98:3:cat"), and reading a model's files again. There is no
unloading, by which any client could stop the server.

References:
    github.com/kserve/open-inference-protocol, `specification/protocol/inference_rest.md`.
"""

import asyncio
import importlib.metadata
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from convscope.classifier.classify import best_first
from convscope.engines import INPUT
from convscope.errors import ConvscopeError, ImageError, ImageTooLargeError
from convscope.serving.direct import BINARY, Direct
from convscope.serving.limits import Limits, RefusedError, aside, within
from convscope.serving.log import LOG, facts
from convscope.serving.models import PROBS, Models, Served, without_folder
from convscope.serving.tensors import (
    LENGTH_HEADER,
    MANY_VALUES,
    MUCH_JSON,
    Output,
    parameters_of,
    read_request,
    write_answer,
)
from convscope.types import NO_CLASS, FloatArray

CLASS_NAME = "class_name"
"""Name of the output with the most probable class, or `NO_CLASS` for a rejected image, shape
(n_images,); where an image may have any number of classes, a list of them as JSON."""

_PLATFORM = "onnx_onnxv1"
_INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1,
                            "items": {
                                "type": "object",
                                "properties": {
                                    "name": {"const": INPUT},
                                    "shape": {"type": "array", "items": {"type": "integer"}},
                                    "datatype": {"enum": ["UINT8", "BYTES"]},
                                    "data": {"type": "array"},
                                },
                                "required": ["name", "shape", "datatype"],
                            },
                        },
                        "outputs": {"type": "array", "items": {"type": "object"}},
                    },
                    "required": ["inputs"],
                }
            },
            "application/octet-stream": BINARY,
        },
    },
    "responses": {"200": {"content": {"application/octet-stream": BINARY}}},
}


def add_protocol(
    app: FastAPI,
    direct: Direct,
    models: Models,
    limits: Limits,
    on_load: Callable[[], None] | None = None,
) -> None:
    """Add the addresses below `/v2` to an application.

    Args:
        app: Application.
        direct: The one in front of it.
        models: Models.
        limits: Limits of requests.
        on_load: Called once a client had the files of a model read again.
    """

    @app.get("/v2", summary="The server")
    async def server() -> Response:
        extensions = ["binary_tensor_data", "classification", "model_repository"]
        return JSONResponse(
            {
                "name": "convscope",
                "version": importlib.metadata.version("convscope"),
                "extensions": extensions,
            }
        )

    @app.get("/v2/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", summary="Whether every model can answer")
    async def ready() -> Response:
        is_ready = models.ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/v2/models/{name}", summary="Inputs and outputs of a model")
    @app.get("/v2/models/{name}/versions/{version}", summary="The same, of a version")
    async def metadata(name: str, version: str | None = None) -> Response:
        served = models.get(name, version)
        return JSONResponse(_metadata(served, list(models.versions(name))))

    @app.get("/v2/models/{name}/ready", summary="Whether a model can answer")
    @app.get("/v2/models/{name}/versions/{version}/ready", summary="The same, of a version")
    async def model_ready(name: str, version: str | None = None) -> Response:
        is_ready = models.ready(name)
        if is_ready:
            models.get(name, version)
        return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    infer_by_version = "/v2/models/{name}/versions/{version}/infer"

    @direct.post(
        "/v2/models/{name}/infer", openapi_extra=_INFER, summary="Classify a tensor of images"
    )
    @direct.post(infer_by_version, openapi_extra=_INFER, summary="The same, by a version")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        served = models.get(name, version)
        length = request.headers.get(LENGTH_HEADER)
        body, most = await request.body(), served.batcher.queue
        async with within(limits):
            much = length is None and len(body) > MUCH_JSON
            channels = served.spec.channels
            asked = await aside(read_request, body, length, channels, most, much=much)
            request.state.facts = {"model": name, "images": len(asked.images)}
            outputs, binary = _wanted(asked.content, served, raw=length == "0")
            further = any(name in served.further for name, _ in outputs)
            head: dict[str, Any] = {"model_name": served.name, "model_version": served.version}
            if "id" in asked.content:
                head["id"] = str(asked.content["id"])

            def written(
                found: dict[str, FloatArray], rejected: list[bool]
            ) -> tuple[bytes, int | None]:
                tensors = [_output(served, found, rejected, each, k) for each, k in outputs]
                return write_answer(head, tensors, binary)

            with served.batcher.admitted(len(asked.images)):
                found, rejected = await _infer(served, asked.images, further=further)
                much = sum(values.size for values in found.values()) > MANY_VALUES
                body, json_length = await aside(written, found, rejected, much=much)
        if json_length is None:
            return Response(body, media_type="application/json")
        headers = {LENGTH_HEADER: str(json_length)}
        return Response(body, headers=headers, media_type="application/octet-stream")

    @app.get("/v2/repository/index", summary="All models and versions")
    @app.post("/v2/repository/index", summary="The same")
    async def index() -> Response:
        return JSONResponse([each for name in models.names for each in _states(models, name)])

    @app.post("/v2/repository/models/{name}/load", summary="Read a model's files again")
    async def load(name: str) -> Response:
        models.versions(name)
        try:
            new = await asyncio.to_thread(models.load, name)
        except ConvscopeError as error:
            LOG.error("load failed", extra=facts(model=name, error=str(error)))
            text = without_folder(error, models.sources[name])
            raise RefusedError(
                400, f"'{name}' was not loaded, nothing has changed: {text}"
            ) from None
        LOG.info("loaded", extra=facts(model=name, new_versions=new))
        if on_load is not None:
            on_load()
        return JSONResponse({"name": name, "new_versions": new})


def _metadata(served: Served, versions: list[str]) -> dict[str, Any]:
    spec = served.spec
    return {
        "name": served.name,
        "versions": versions,
        "platform": _PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, spec.channels]}],
        "outputs": [
            {"name": PROBS, "datatype": "FP32", "shape": [-1, len(spec.class_names)]},
            {"name": CLASS_NAME, "datatype": "BYTES", "shape": [-1]},
            *(
                {"name": name, "datatype": "FP32", "shape": [-1, *shape]}
                for name, shape in served.further.items()
            ),
        ],
        "parameters": {
            "class_names": list(spec.class_names),
            **({"thresholds": list(spec.thresholds)} if spec.multi_label else {}),
            "height": spec.height,
            "width": spec.width,
            "sha256": served.digest,
        },
    }


def _states(models: Models, name: str) -> list[dict[str, str]]:
    versions = models.versions(name)
    if not versions:
        return [{"name": name, "version": "", "state": "UNAVAILABLE", "reason": "not loaded"}]
    state = "READY" if models.ready(name) else "UNAVAILABLE"
    return [{"name": name, "version": each, "state": state, "reason": ""} for each in versions]


def _wanted(
    content: dict[str, Any], served: Served, *, raw: bool
) -> tuple[list[tuple[str, int]], list[bool]]:
    """Return the outputs that a request asks for, each with its number of classes (0: all).

    Without a list of them, those that the model's metadata lists.

    Returns:
        Name and number of classes of each output, and whether each is to be binary.

    Raises:
        RefusedError: If it asks for one that there is not.
    """
    by_default = parameters_of(content).get("binary_data_output", raw)
    listed = content.get("outputs")
    known = (PROBS, CLASS_NAME, *served.further)
    if listed is None or listed == []:
        return [(name, 0) for name in known], [by_default is True] * len(known)
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise RefusedError(400, '"outputs" has to be a list of {"name": ...}')
    found: list[tuple[str, int]] = []
    binary: list[bool] = []
    for each in listed:
        name = each.get("name")
        if name not in known:
            raise RefusedError(
                400, f"the model has no output '{str(name)[:40]}'; it has {', '.join(known)}"
            )
        if any(name == other for other, _ in found):
            # Each would be there once more in the answer.
            raise RefusedError(400, f"the output '{name}' is asked for twice")
        parameters = parameters_of(each)
        k = parameters.get("classification", 0)
        if not isinstance(k, int) or isinstance(k, bool) or k < 0 or (k and name != PROBS):
            raise RefusedError(400, f"classification has to be a number of classes, of '{PROBS}'")
        found.append((name, k))
        binary.append(parameters.get("binary_data", by_default) is True)
    return found, binary


async def _infer(
    served: Served, images: list[Any], *, further: bool
) -> tuple[dict[str, FloatArray], list[bool]]:
    """Return outputs by name, and whether each image is rejected.

    They are the probabilities, and on request all that the model has.
    """
    pixels = await served.decode(images)
    for index, each in enumerate(pixels):
        if isinstance(each, ImageError):
            served.metrics.unreadable(1)
            status = 413 if isinstance(each, ImageTooLargeError) else 400
            raise RefusedError(status, f"element {index} of '{INPUT}': {each}")
    if further:
        return await served.outputs(pixels)  # type: ignore[arg-type]
    probs, rejected = await served.predict(pixels)  # type: ignore[arg-type]
    return {PROBS: probs}, rejected


def _output(
    served: Served, found: dict[str, FloatArray], rejected: list[bool], name: str, k: int
) -> Output:
    names, probs = served.spec.class_names, found[PROBS]
    if name in served.further:
        return Output(name, found[name])
    if name == CLASS_NAME and served.spec.multi_label:
        answers = (
            served.classifier.answer(None, row, rejected=each)
            for row, each in zip(probs, rejected, strict=True)
        )
        lists = [json.dumps(each.class_names, ensure_ascii=False).encode() for each in answers]
        return Output(CLASS_NAME, np.array(lists, dtype=object))
    if name == CLASS_NAME:
        said = zip(probs.argmax(axis=1), rejected, strict=True)
        values = [(NO_CLASS if none else names[best]).encode() for best, none in said]
        return Output(CLASS_NAME, np.array(values, dtype=object))
    if not k:
        return Output(PROBS, probs)
    best = best_first(probs)[:, :k]
    texts = np.empty(best.shape, dtype=object)
    for row, indices in enumerate(best):
        for rank, index in enumerate(indices):
            texts[row, rank] = f"{probs[row, index]:f}:{index}:{names[index]}".encode()
    return Output(PROBS, texts)
