"""Addresses of the studio: a page each, the files of runs, pictures, uploads."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from convscope.errors import ConvscopeError
from convscope.run import Run
from convscope.studio.gate import Gate
from convscope.studio.workplace import Workplace

if TYPE_CHECKING:
    from convscope.studio.sources import Sources

_OWN = Path(__file__).parent
_SANDBOX = (
    # A run may be another person's: its pages run alone, as if they came from nowhere.
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data: blob:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; font-src data:"
)


def build_app(place: Workplace, token: str, port: int) -> Gate:
    """Return the ASGI application of the studio.

    Args:
        place: Folder of runs.
        token: Secret of its address.
        port: Port at which it listens.

    Raises:
        ModuleNotFoundError: If NiceGUI is not installed.
    """
    # NiceGUI makes a folder for its own storage in the current one otherwise; it stays empty.
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(place.own / "nicegui"))
    from nicegui import ui

    # It tells the terminal how long its own parts took.
    logging.getLogger("nicegui").setLevel(logging.ERROR)

    from convscope.studio import data as data_page
    from convscope.studio import inside, run, runs, train, use
    from convscope.studio.sources import Sources
    from convscope.studio.uploads import add_uploads

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    sources = Sources()
    _add_files(app, place, sources)
    add_uploads(app, place)

    def add(address: str, show: Any) -> None:
        ui.page(address, response_timeout=30)(show)

    add("/runs", lambda: runs.show(place))

    def of_run(name: str) -> None:
        run.show(place, sources, name)

    add("/run/{name}", of_run)

    async def of_data(data: str = "", labels: str = "") -> None:
        await data_page.show(place, sources, data, labels)

    add("/data", of_data)

    def of_use(name: str = "") -> None:
        use.show(place, sources, name)

    def of_inside(name: str = "") -> None:
        inside.show(place, name)

    for address, shown in (("/use", of_use), ("/inside", of_inside)):
        add(address, shown)
        add(f"{address}/{{name}}", shown)

    def of_training(
        data: str = "", labels: str = "", run: str = "", group: str = "", near_copies: bool = False
    ) -> None:
        train.show(place, data, labels, run, group, near_copies)

    add("/train", of_training)

    async def first() -> None:
        if place.runs():
            runs.show(place)
        else:
            await data_page.show(place, sources)

    add("/", first)
    ui.run_with(
        app,
        title="convscope studio",
        favicon=_OWN / "icon.svg",
        dark=None,
        tailwind=False,
        language="en-US",
        reconnect_timeout=30,
        # Pages are for one person; a message that was lost is redrawn.
        message_history_length=200,
        show_welcome_message=False,
    )
    return Gate(app, token, port)


def _add_files(app: FastAPI, place: Workplace, sources: "Sources") -> None:
    from convscope.studio.sources import picture_name

    for own in ("studio.css", "drop.js"):
        _add_own(app, own)

    @app.get("/thumb/{key}")
    def thumb(key: str, request: Request) -> Response:
        # Not a coroutine: it runs in a thread, since decoding takes a while.
        try:
            content = sources.picture(key, picture_name(request.url.query))
        except ConvscopeError as error:
            return PlainTextResponse(f"{error}\n", 404)
        kept = {"cache-control": "private, max-age=3600"}
        return Response(content, media_type="image/jpeg", headers=kept)

    @app.get("/files/{name}/{file:path}")
    async def file_of_run(name: str, file: str) -> Response:
        try:
            found = shown_file(place.run(name), file)
        except ConvscopeError as error:
            return PlainTextResponse(f"{error}\n", 404)
        if found is None:
            return PlainTextResponse("there is no such file of a run\n", 404)
        kind = "text/plain; charset=utf-8" if found.suffix == ".md" else None
        # A page of the same name may be another one by now.
        fields = {"content-security-policy": _SANDBOX, "cache-control": "no-cache"}
        return FileResponse(found, media_type=kind, headers=fields)

    @app.get("/comparison/{name}")
    async def comparison(name: str) -> Response:
        try:
            page = place.comparison_page(name)
        except ConvscopeError as error:
            return PlainTextResponse(f"{error}\n", 404)
        fields = {"content-security-policy": _SANDBOX, "cache-control": "no-cache"}
        return FileResponse(page, headers=fields)

    @app.get("/download/{name}/{file}")
    async def download(name: str, file: str) -> Response:
        try:
            folder = place.run(name).exports_dir
        except ConvscopeError as error:
            return PlainTextResponse(f"{error}\n", 404)
        path = folder / file
        own = path.name == file and not path.is_symlink() and not folder.is_symlink()
        if not own or not path.is_file():
            return PlainTextResponse("there is no such exported file\n", 404)
        return FileResponse(
            path,
            filename=file,
            media_type="application/octet-stream",
            headers={"cache-control": "no-cache"},
        )

    @app.get("/picture/{name}.png")
    async def picture(name: str) -> Response:
        job = place.jobs.find(name)
        words = () if job is None else job.words
        if "--out" in words[:-1]:
            path = Path(words[words.index("--out") + 1])
            if path.resolve().is_relative_to((place.own / "pictures").resolve()) and path.is_file():
                return FileResponse(path, headers={"cache-control": "no-store"})
        return PlainTextResponse("there is no such picture\n", 404)


def _add_own(app: FastAPI, name: str) -> None:
    @app.get(f"/{name}")
    async def own() -> Response:
        return FileResponse(_OWN / name, headers={"cache-control": "no-cache"})


def shown_file(run: Run, name: str) -> Path | None:
    """Return a file of a run that the studio shows; None for any other.

    Links are not followed: the folder may be another person's.
    """
    shown = {
        file.name: file
        for file in (
            *(run.report_page, run.card_file, run.samples_picture, run.augmented_picture),
            run.similar_picture,
        )
    }
    path = shown.get(name)
    folder, _, page = name.partition("/")
    if folder == run.explanations_dir.name and page.endswith(".html") and "/" not in page:
        path = run.explanations_dir / page
    if path is None or path.is_symlink() or run.explanations_dir.is_symlink():
        return None
    return path if path.is_file() else None
