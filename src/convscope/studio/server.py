"""The public `studio`: the application behind an address of this machine."""

import contextlib
import os
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from convscope.errors import ConfigError, MissingExtraError
from convscope.paths import user_path
from convscope.run import ROOT
from convscope.studio.workplace import Workplace

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
"""Address at which it listens: nobody else on the network reaches it."""


def studio(
    runs: Path | str = ROOT,
    *,
    port: int = 8100,
    open_browser: bool = True,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Open the workbench in a browser, until Ctrl-C; work that it started goes on.

    It listens on this machine only, and admits the browser that opens its address with the token.

    Args:
        runs: Folder of runs; created with the first.
        port: Port to listen at; 0 takes a free one.
        open_browser: Whether the address is opened in the browser.
        on_ready: Called with the address once it answers.

    Raises:
        ConfigError: If the port is taken; within an event loop, as in a notebook.
        MissingExtraError: If NiceGUI is not installed.
        StorageError: If the folder of runs cannot be written to.
    """
    try:
        import nicegui  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "nicegui").partition(".")[0], "studio") from None
    import uvicorn

    from convscope.serving.server import require_no_loop
    from convscope.studio.application import build_app

    require_no_loop("studio")
    place = Workplace(user_path(runs, "--runs"))
    token = place.token()
    listening = _listen(port)
    port = listening.getsockname()[1]
    address = f"http://{HOST}:{port}/?token={token}"
    gate = build_app(place, token, port)
    config = uvicorn.Config(
        gate,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
        ws_max_size=4 * 1024**2,
        proxy_headers=False,
    )

    def ready() -> None:
        if on_ready is not None:
            on_ready(address)
        if open_browser:
            with contextlib.suppress(webbrowser.Error):
                # All users of a machine see the command of the browser.
                webbrowser.open(f"http://{HOST}:{port}/?ticket={gate.new_ticket()}")

    try:
        _server(config, ready).run(sockets=[listening])
    finally:
        listening.close()


def _server(config: "uvicorn.Config", ready: Callable[[], None]) -> "uvicorn.Server":
    import uvicorn

    class Server(uvicorn.Server):
        """Server that says when it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                ready()

    return Server(config)


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name != "nt":  # there it would let two studios have one port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        # At once: until then another one may have the port, too.
        listening.listen(128)
    except (OSError, OverflowError):
        listening.close()
        raise ConfigError(
            f"port {port} of {HOST} cannot be used; is a studio running there? "
            "Choose another with --port, or a free one with --port 0"
        ) from None
    return listening
