"""`convscope serve`."""

import os
from typing import Annotated

import typer

from convscope.cli._options import ENGINE_HELP, Port

_API_KEY = "CONVSCOPE_API_KEY"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Exported files (.onnx), or folders of versions (1/x.onnx, 2/x.onnx); "
            "NAME=PATH gives a name. The first one answers /predict by default.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 admits other machines.")
    ] = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes, each with all models. One is enough unless the network is faster than "
            "HTTP: the engine uses all cores.",
        ),
    ] = 1,
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of images in a batch.",
            show_default="as many as take 25 ms, at most 32",
        ),
    ] = None,
    queue: Annotated[
        int, typer.Option(min=1, help="Maximum number of waiting images per model; then 503.")
    ] = 512,
    deadline_ms: Annotated[
        float, typer.Option(min=1, help="Deadline of an answer in milliseconds; then 504.")
    ] = 10_000.0,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=_API_KEY,
            help="Key that clients must send. Prefer the variable: other users of the machine can "
            "see the command line.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further host name to accept, of a proxy in front."),
    ] = None,
    max_body_mb: Annotated[
        float, typer.Option(min=0.001, help="Maximum size of a request in MB.")
    ] = 32.0,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, help="Maximum size of an image in millions of pixels.")
    ] = 50.0,
    reject: Annotated[
        bool, typer.Option("--reject", help="Reject images that look like none of the classes.")
    ] = False,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Number of classes in an answer of /predict. Default: all."),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "onnxruntime",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the engine for a batch. Default: one for a small network, else one "
            "per core.",
        ),
    ] = None,
    drain_s: Annotated[
        float,
        typer.Option(min=0, help="Seconds after SIGTERM in which new requests are still answered."),
    ] = 0.0,
    log_requests: Annotated[bool, typer.Option(help="Log each request as a line of JSON.")] = True,
) -> None:
    """Serve exported models over HTTP: a page, /predict, the Open Inference Protocol.

    It listens on this machine only, unless --host says otherwise. Ctrl-C or SIGTERM ends it after
    the requests in progress, a second one at once; SIGHUP reloads changed files.

    For example:

        convscope export runs/NAME --out cats.onnx
        convscope serve cats.onnx
        curl --data-binary @photo.jpg localhost:8000/predict
        curl -F file=@a.jpg -F file=@b.jpg 'localhost:8000/predict?top_k=3'

    Addresses: / (the page), /predict, /v2/... (Open Inference Protocol), /metrics (Prometheus),
    /healthz, /openapi.json.
    """
    import convscope

    if api_key is None:
        # Typer takes an empty variable for none, and the server would be open to everybody.
        api_key = os.environ.get(_API_KEY)
    convscope.serve(
        models,
        host=host,
        port=port,
        workers=workers,
        max_batch=max_batch,
        queue=queue,
        deadline_ms=deadline_ms,
        api_key=api_key,
        allow_host=allow_host or (),
        max_body_mb=max_body_mb,
        max_megapixels=max_megapixels,
        reject=reject,
        top_k=top_k,
        engine=engine,
        threads=threads,
        drain_s=drain_s,
        log_requests=log_requests,
        on_ready=lambda address: typer.echo(f"Ready at {address} (Ctrl-C ends)"),
    )
