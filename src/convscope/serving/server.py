"""The server's process: settings, signals, loading, and an orderly end."""

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from convscope.errors import ConfigError, ConvscopeError
from convscope.registry import listed
from convscope.serving.application import build_app
from convscope.serving.door import usable_key
from convscope.serving.limits import limits_of
from convscope.serving.log import LOG, facts, log_as_json
from convscope.serving.metrics import Metrics
from convscope.serving.models import Models, Settings, sources_of
from convscope.serving.workers import run_workers

if TYPE_CHECKING:
    from convscope.serving.door import App

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CONNECTIONS = 1000
_KEEP_ALIVE_S = 30
_HEAD_S = 20.0
"""Seconds in which a client has to send the head of a request."""
_UNREAD_S = 15.0
"""Seconds in which a client has to read something of an answer that waits; at most twice as many
pass until its connection is cut."""
_MOST_HEAD = 1 << 16
"""Largest head of a request, in bytes; one that comes at once may be a few times as large."""


def serve(
    models: str | Path | Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    max_batch: int | None = None,
    queue: int = 512,
    deadline_ms: float = 10_000.0,
    api_key: str | None = None,
    allow_host: str | Sequence[str] = (),
    max_body_mb: float = 32.0,
    max_megapixels: float = 50.0,
    reject: bool = False,
    top_k: int | None = None,
    engine: str = "onnxruntime",
    threads: int | None = None,
    drain_s: float = 0.0,
    log_requests: bool = True,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve exported models over HTTP until SIGTERM or Ctrl-C.

    The first signal ends the server once the requests in progress are answered, a second one at
    once. SIGHUP reads the files of all models again; one that cannot be loaded leaves the old one.

    Args:
        models: Paths of exported files, or of folders of versions ("1/x.onnx", "2/x.onnx"), or
            "NAME=PATH". The first one answers `/predict` by default.
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        workers: Number of processes, each with all models.
        max_batch: Largest number of images in a batch; None takes as many as the engine answers in
            25 ms, at most 32.
        queue: Largest number of images that wait or are being answered, for each model.
        deadline_ms: Milliseconds from the arrival of a request to its answer.
        api_key: Key that clients have to send; None lets everybody in.
        allow_host: Names under which a server at a loopback address may be addressed, besides
            "localhost", and whose pages may send requests: that of a proxy in front of it.
        max_body_mb: Largest body of a request, in MB.
        max_megapixels: Largest image, in millions of pixels.
        reject: Whether images that look like no class are rejected.
        top_k: Number of classes in an answer of `/predict`; None for all.
        engine: Registered engine ("onnxruntime", "openvino"), or "auto": the fastest here.
        threads: Threads of the engine for a batch; None takes one for a small network, else all
            usable cores.
        drain_s: Seconds after the first signal in which the server still takes requests, and says
            that it is not ready, so that a load balancer turns away from it.
        log_requests: Whether each request is a line in the log.
        on_ready: Called with the server's address once it can answer.

    Raises:
        ConfigError: If the address is taken, the key empty, or a setting not allowed; within an
            event loop, as in a notebook.
        ConvscopeError: If a model cannot be loaded.
    """
    require_no_loop("serve", ", or mount convscope.serving.app in an application of yours")
    api_key = usable_key(api_key)
    settings = Settings(
        engine=engine,
        threads=threads,
        max_batch=max_batch,
        queue=queue,
        reject=reject,
        limits=limits_of(max_body_mb, max_megapixels, deadline_ms),
    )
    sources = sources_of([models] if isinstance(models, str | Path) else models)
    listening = _listen(host, port)
    address = f"http://{_written(host)}:{listening.getsockname()[1]}"

    def work() -> None:
        metrics = Metrics()
        loaded = Models(sources, settings, metrics)
        parent = None if workers == 1 else os.getppid()
        # Which has all workers do so; to the one that did it there is nothing new.
        tell_others = None if parent is None else partial(os.kill, parent, signal.SIGHUP)
        names = {name.lower() for name in listed(allow_host)}
        app = build_app(
            loaded,
            settings.limits,
            metrics,
            api_key=api_key,
            hosts=names if host in _LOOPBACK else None,
            origins=names,
            top_k=top_k,
            log_requests=log_requests,
            on_load=tell_others,
        )
        say = on_ready or (lambda address: None)
        grace_s = settings.limits.body_s + settings.limits.deadline_ms / 1000
        server = _Server(app, loaded, drain_s, grace_s, lambda: say(address), parent)
        server.serve_at(listening)

    with contextlib.closing(listening), log_as_json():
        if host not in _LOOPBACK and api_key is None:
            LOG.warning("everybody who can reach this machine can use the server; see --api-key")
        if workers == 1:
            work()
        else:
            run_workers(workers, work)


def require_no_loop(verb: str, instead: str = "") -> None:
    """Refuse to serve where an event loop runs in this thread already, as in a notebook.

    Args:
        verb: Name of the function.
        instead: Further advice.

    Raises:
        ConfigError: If one runs.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(
        f"{verb} cannot run within an event loop, as in a notebook; start it in a terminal, or in "
        f"a thread of its own{instead}"
    )


class _Server(uvicorn.Server):
    """A server that loads its models while it is alive but not ready, and drains at the end.

    Args:
        app: ASGI application.
        models: Its models.
        drain_s: Seconds between the first signal and the closing of the socket.
        grace_s: Seconds after that in which requests in progress are answered.
        on_ready: Called once all models are loaded.
        parent: Process without which this one ends, too; None for none.
    """

    def __init__(
        self,
        app: "App",
        models: Models,
        drain_s: float,
        grace_s: float,
        on_ready: Callable[[], None],
        parent: int | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(grace_s),
            )
        )
        self._models = models
        self._drain_s = drain_s
        self._on_ready = on_ready
        self._failure: ConvscopeError | None = None
        self._parent = parent

    def serve_at(self, listening: socket.socket) -> None:
        """Serve until a signal.

        Raises:
            ConvscopeError: If a model cannot be loaded.
        """
        if self._parent is None:
            threading.Thread(target=self._load, daemon=True).start()
        else:
            # Other workers answer in the meantime.
            self._load()
        if self._failure is None:
            self.run([listening])
        if self._failure is not None:
            raise self._failure
        LOG.info("stopped")

    def _load(self) -> None:
        try:
            self._models.load_all()
        except ConvscopeError as error:
            self._failure = error
            self.should_exit = True
            return
        # What is there now stays; to look it through again and again would delay answers.
        gc.collect()
        gc.freeze()
        LOG.info("ready", extra=facts(models=self._models.names))
        self._on_ready()

    def _reload(self) -> None:
        for name in self._models.names:
            try:
                new = self._models.load(name)
                LOG.info("loaded", extra=facts(model=name, new_versions=new))
            except ConvscopeError as error:
                LOG.error("load failed", extra=facts(model=name, error=str(error)))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals of the end, and SIGHUP."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers: dict[int, Any] = {
            signal.SIGINT: self.handle_exit,
            signal.SIGTERM: self.handle_exit,
        }
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = lambda *_: threading.Thread(
                target=self._reload, daemon=True
            ).start()
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        if hasattr(signal, "SIGHUP"):
            # A worker waited with it.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at the second."""
        if self._models.draining:
            os._exit(128 + sig)
        self._models.draining = True
        if not self._drain_s:
            self.should_exit = True
            return
        # In a thread: a signal may come while the loop is anywhere.
        timer = threading.Timer(self._drain_s, lambda: setattr(self, "should_exit", True))
        timer.daemon = True
        timer.start()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end: a worker does so without its parent, too."""
        orphaned = self._parent is not None and os.getppid() != self._parent
        return await super().on_tick(counter) or orphaned


class _Connection(HttpToolsProtocol):
    """A connection whose heads of requests have to be short and to come in time.

    The parser by itself keeps a head that never ends, and so the trailers of a body in chunks. And
    a client that does not read its answer would have it wait in memory, and the server at its end.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._unused = 0
        self._watch: asyncio.TimerHandle | None = None
        self._await_head()
        self._require_read(0, None)

    def _require_read(self, before: int, answer: object) -> None:
        """Cut the connection if nothing was read of what waits, and look again later.

        Args:
            before: Bytes that waited to be read when it was looked last.
            answer: Answer to which they belonged: of a later one as many may wait.
        """
        waiting = self.transport.get_write_buffer_size()
        if 0 < before <= waiting and answer is self.cycle:
            # To close it would be to wait until all is read.
            self.transport.abort()
            return
        self._unread = self.loop.call_later(_UNREAD_S, self._require_read, waiting, self.cycle)

    def _await_head(self) -> None:
        if self._watch is None:
            self._watch = self.loop.call_later(_HEAD_S, self.transport.close)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def data_received(self, data: bytes) -> None:
        """Take bytes, and refuse too many that complete neither a head nor a part of a body."""
        self._unused += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unused > _MOST_HEAD:
            self.send_400_response(f"The head of the request is over {_MOST_HEAD // 1024} KB.")
        elif self.cycle is None or self.cycle.response_complete:
            # Bytes end the wait for a further request, whatever they are.
            self._await_head()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._unused = 0
        self._stop_watch()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._unused = 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_watch()
        self._unread.cancel()
        super().connection_lost(exc)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        ConfigError: If there is no such address, or it is taken.
    """
    if not 0 <= port <= 65535:
        # The system would take the remainder.
        raise ConfigError(f"port {port} is not in 0..65535; choose another with --port")
    listening = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        if os.name != "nt":  # there it would let two servers have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise ConfigError(
            f"cannot listen at {host}, port {port} ({error.strerror}); choose others with "
            "--host and --port"
        ) from None
    listening.set_inheritable(True)
    return listening


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host
