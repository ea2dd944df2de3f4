"""Connections and the log."""

import json
import logging
import socket
import sys
import threading
import time

import pytest
import uvicorn
from serving_server import Server, png

from convscope.serving import server as module
from convscope.serving.log import facts, log_as_json


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(module, "_HEAD_S", 0.8)  # a busy machine takes tenths of a second
    application = Server().app
    config = uvicorn.Config(
        application, port=0, http=module._Connection, log_config=None, lifespan="off", ws="none"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join()


HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(png(1))


@pytest.mark.parametrize("sent", [b"", b"POST /predict HT", HEAD[:-2]])
def test_a_connection_without_a_whole_head_is_closed(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        start = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - start > 0.4


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


def test_each_line_of_the_log_is_json_whatever_is_in_it(monkeypatch, capsys):
    loggers = [logging.getLogger(name) for name in ("convscope.serving", "uvicorn")]
    before = [(each.handlers, each.propagate, each.level) for each in loggers]
    monkeypatch.setattr(logging, "raiseExceptions", True)
    try:
        log_as_json()
        module.LOG.info("asked", extra=facts(path='/a\n{"level": "x"}\x1b[31m'))
        try:
            raise ValueError("two\nlines")
        except ValueError:
            module.LOG.exception("defect")
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    finally:
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
    asked, defect, warning = capsys.readouterr().err.splitlines()
    assert json.loads(asked)["path"].startswith("/a\n")
    assert "\x1b" not in asked
    assert "two\nlines" in json.loads(defect)["traceback"]
    assert json.loads(warning)["level"] == "warning"
    assert sys.stderr is not None
