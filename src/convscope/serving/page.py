"""The page for people, and what only it asks for: why, and the shares of answers."""

import base64
import hashlib
import importlib.resources
import re
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from convscope.errors import ImageError, ImageTooLargeError
from convscope.serving.direct import BINARY
from convscope.serving.limits import Limits, RefusedError, within
from convscope.serving.models import Models
from convscope.types import UInt8Array

_N_ACROSS = 10
"""Positions of the grey square along each side."""


def add_page(app: FastAPI, models: Models, limits: Limits) -> None:
    """Add the page at `/`, and the addresses that it asks."""
    text = importlib.resources.files("convscope.serving").joinpath("page.html").read_text("utf-8")
    headers = {"content-security-policy": _policy(text)}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(text, headers=headers)

    @app.get("/shares", summary="Shares of the answers and of their probabilities")
    async def shares(
        model: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        served = models.get(model or None)
        return JSONResponse(served.metrics.shares(served.spec.val_shares))

    @app.post(
        "/explain",
        openapi_extra={"requestBody": {"required": True, "content": {"image/*": BINARY}}},
        summary="What the most probable class loses when a part is covered",
    )
    async def explain(
        request: Request, model: Annotated[str | None, Query(max_length=200)] = None
    ) -> Response:
        served = models.get(model or None)
        # A batch at a time, however short the queue, so that others get in between.
        n_images = _N_ACROSS**2 + 1
        n_at_once = min(n_images, served.batcher.max_batch, served.batcher.queue)
        with served.batcher.admitted(n_at_once):
            async with within(limits):
                (pixels,) = await served.decode([await request.body()])
                if isinstance(pixels, ImageError):
                    status = 413 if isinstance(pixels, ImageTooLargeError) else 400
                    raise RefusedError(status, str(pixels))
                answers = [
                    await served.batcher.predict(
                        covered(pixels, _N_ACROSS, range(n_images)[first : first + n_at_once])
                    )
                    for first in range(0, n_images, n_at_once)
                ]
        probs = np.concatenate(answers)[:, :-1]
        best = int(probs[0].argmax())
        losses = (probs[0, best] - probs[1:, best]).reshape(_N_ACROSS, _N_ACROSS)
        spec = served.spec
        return JSONResponse(
            {
                "class": spec.class_names[best],
                "losses": losses.astype(float).round(5).tolist(),
                # The losses are laid over what the model sees of the image.
                "fit": spec.fit,
                "aspect": spec.width / spec.height,
            }
        )


def covered(image: UInt8Array, n_across: int, which: range) -> UInt8Array:
    """Return some of: an image, and the image with a grey square at each of some places.

    The square has a quarter of the shorter side, as in `explain.occlusion`.

    Args:
        image: Shape (height, width, channels).
        n_across: Number of places along each side, at least 2.
        which: 0 for the image as it is, 1 to n_across * n_across for the places, row by row.

    Returns:
        Shape (len(which), height, width, channels).
    """
    height, width = image.shape[:2]
    half = max(1, min(height, width) // 8)
    images = np.repeat(image[np.newaxis], len(which), axis=0)
    grey = image.mean(axis=(0, 1)).astype(np.uint8)
    rows = np.linspace(0, height - 1, n_across).astype(int)
    columns = np.linspace(0, width - 1, n_across).astype(int)
    for copy, number in zip(images, which, strict=True):
        if number:
            row, column = rows[(number - 1) // n_across], columns[(number - 1) % n_across]
            top, left = max(0, row - half), max(0, column - half)
            copy[top : row + half + 1, left : column + half + 1] = grey
    return images


def _policy(text: str) -> str:
    """Return the policy that lets the page's own script and style run, and nothing else."""
    hashes = {}
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[tag] = f"'sha256-{digest}'"
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "img-src blob:; media-src blob:; connect-src 'self'; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
