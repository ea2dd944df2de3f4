"""Connections and the log."""

import asyncio
import contextlib
import inspect
import json
import logging
import socket
import sys
import threading
import time
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from serving_server import Server, png

import brightness
from convscope.errors import ConfigError, RunError
from convscope.serving import app
from convscope.serving import server as module
from convscope.serving.log import facts, log_as_json
from convscope.studio import server as studio


@contextlib.contextmanager
def listening(application):
    """Yield a server of an application, and its port."""
    config = uvicorn.Config(
        application, port=0, http=module._Connection, log_config=None, lifespan="off", ws="none"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield running, running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(module, "_HEAD_S", 0.8)  # a busy machine takes tenths of a second
    with listening(Server().app) as (_, number):
        yield number


HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(png(1))


@pytest.mark.parametrize("sent", [b"", b"POST /predict HT", HEAD[:-2]])
def test_a_connection_without_a_whole_head_is_closed(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        start = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - start > 0.4


CHUNKED = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begin",
    [
        b"POST /predict?",
        b"POST /predict HTTP/1.1\r\nx: ",
        b"POST /predict HTTP/1.1\r\n",
        CHUNKED + b"1\r\nx\r\n0\r\nx: ",
        CHUNKED + b"1\r\nx\r\n1;x=",
    ],
    ids=["address", "header", "headers", "trailer", "extension of a chunk"],
)
def test_a_head_without_an_end_is_refused(port, begin):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(begin)
        more = b"a: b\r\n" * 1000 if begin.endswith(b"\n") else b"a" * 6000
        n_sent = 0
        with contextlib.suppress(OSError):
            while n_sent < 1_000_000:
                connection.sendall(more)
                n_sent += len(more)
                time.sleep(0.005)  # not all in one piece
        assert n_sent < 1_000_000


def test_a_long_head_is_read(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(HEAD[:-2])
        for _ in range(10):
            connection.sendall(b"x: " + b"a" * 5000 + b"\r\n")
            time.sleep(0.005)
        connection.sendall(b"\r\n" + png(1))
        assert b" 200 OK" in whole_answer(connection)


def test_a_connection_that_sends_only_new_lines_is_closed(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(HEAD + png(1))
        whole_answer(connection)
        start = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < start + 10:
                connection.sendall(b"\r\n")
                time.sleep(0.05)
        assert time.monotonic() - start < 5


def test_a_body_in_many_chunks_is_read(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(CHUNKED)
        content = png(1)
        connection.sendall(b"".join(b"1\r\n%c\r\n" % each for each in content) + b"0\r\n\r\n")
        assert b" 200 OK" in whole_answer(connection)


def whole_answer(connection):
    """Head and body may come apart."""
    answer = b""
    while not answer.endswith(b"}]}"):
        some = connection.recv(100_000)
        assert some, "the connection was closed"
        answer += some
    return answer


def test_a_connection_that_asks_slowly_but_steadily_stays(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(HEAD)
            time.sleep(1)
            connection.sendall(png(1))
            assert b" 200 OK" in whole_answer(connection)
            time.sleep(1)
        connection.sendall(b"POST")
        while connection.recv(100_000):  # the head of a further request does not come
            pass


MUCH = 40_000_000
"""Bytes of an answer that no system takes off the server's hands before the client reads it."""


async def answers_much(scope, receive, send):
    headers = [(b"content-length", b"%d" % MUCH)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(MUCH)})


@pytest.mark.parametrize("end", ["", "connection: close\r\n"], ids=["kept alive", "closed"])
@pytest.mark.parametrize("exits", [False, True])
def test_a_client_that_does_not_read_its_answer_is_cut_off(monkeypatch, end, exits):
    monkeypatch.setattr(module, "_UNREAD_S", 0.4)
    with (
        listening(answers_much) as (running, number),
        socket.create_connection(("127.0.0.1", number), timeout=10) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.1\r\nhost: localhost\r\n{end}\r\n".encode())
        start = time.monotonic()
        assert connection.recv(1)
        running.should_exit = exits
        while running.server_state.connections:
            assert time.monotonic() < start + 10
            time.sleep(0.01)
        assert time.monotonic() > start + 0.3


def test_a_client_that_reads_slowly_gets_its_answer(monkeypatch):
    monkeypatch.setattr(module, "_UNREAD_S", 0.4)
    with (
        listening(answers_much) as (_, number),
        socket.create_connection(("127.0.0.1", number), timeout=10) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        n_read = 0
        while some := connection.recv(1_000_000):
            n_read += len(some)
            time.sleep(0.03)
        assert n_read > MUCH


def test_as_much_of_a_later_answer_may_wait_to_be_read_as_of_the_one_before():
    looks, cut = [], []
    connection = object.__new__(module._Connection)
    connection.loop = SimpleNamespace(call_later=lambda _, look, *args: looks.append(args))
    waiting = [100]
    connection.transport = SimpleNamespace(
        get_write_buffer_size=lambda: waiting[-1], abort=lambda: cut.append(waiting[-1])
    )
    connection.cycle = "first"
    connection._require_read(0, None)
    connection.cycle = "second"
    waiting.append(500)
    connection._require_read(*looks[-1])
    assert not cut
    connection._require_read(*looks[-1])
    assert cut == [500]


def test_each_line_of_the_log_is_json_whatever_is_in_it(capsys):
    loggers = [logging.getLogger(name) for name in ("convscope.serving", "uvicorn")]

    def state():
        loggers_now = [(each.handlers, each.propagate, each.level) for each in loggers]
        return loggers_now, logging.raiseExceptions

    before = state()
    with log_as_json():
        assert state() != before
        module.LOG.info("asked", extra=facts(path='/a\n{"level": "x"}\x1b[31m'))
        try:
            raise ValueError("two\nlines")
        except ValueError:
            module.LOG.exception("defect")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert state() == before
    asked, defect, warning = capsys.readouterr().err.splitlines()
    assert json.loads(asked)["path"].startswith("/a\n")
    assert "\x1b" not in asked
    assert "two\nlines" in json.loads(defect)["traceback"]
    assert json.loads(warning)["level"] == "warning"
    assert sys.stderr is not None


@pytest.mark.parametrize("verb", [module.serve, studio.studio])
def test_within_an_event_loop_a_server_is_refused_before_it_listens(verb, monkeypatch):
    async def cell():
        verb("x.onnx")

    for place in (module, studio):
        monkeypatch.setattr(place, "_listen", None)
    with pytest.raises(ConfigError, match="in a notebook.*in a terminal, or in a thread"):
        asyncio.run(cell())


def test_a_socket_is_closed_and_the_log_as_before_where_no_model_loads(tmp_path, monkeypatch):
    opened = []
    listen = module._listen
    monkeypatch.setattr(module, "_listen", lambda *at: opened.append(listen(*at)) or opened[0])
    before = logging.raiseExceptions
    with pytest.raises(RunError, match="cannot be read"):
        module.serve(tmp_path / "missing.onnx", port=0)
    assert opened[0].fileno() == -1
    assert logging.raiseExceptions == before


def test_an_application_has_the_settings_of_a_server_but_those_of_its_process():
    server, application = (inspect.signature(each).parameters for each in (module.serve, app))
    of_a_process = {"host", "port", "workers", "drain_s", "on_ready"}
    assert application.keys() == server.keys() - of_a_process
    for name in application.keys() - {"models"}:
        assert application[name].default == server[name].default
        assert application[name].annotation == server[name].annotation


def test_an_application_keeps_to_its_settings(tmp_path):
    pytest.importorskip("onnx")
    model = brightness.export(tmp_path / "model.onnx")
    settings = {"allow_host": "Pages.example", "max_body_mb": 0.001, "threads": 1}
    with listening(app(model, log_requests=False, **settings)) as (_, number):
        at, image = f"http://127.0.0.1:{number}/predict", png(200)
        allowed = httpx.post(at, content=image, headers={"origin": "https://pages.example"})
        refused = httpx.post(at, content=image, headers={"origin": "https://others.example"})
        large = httpx.post(at, content=bytes(2000))
    assert (allowed.status_code, refused.status_code, large.status_code) == (200, 403, 413)


def test_no_threads_are_refused_by_an_application(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(ConfigError, match="threads must be at least 1"):
        app(brightness.export(tmp_path / "model.onnx"), threads=0)
