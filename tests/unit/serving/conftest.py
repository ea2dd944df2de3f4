"""The server of most tests; lets the files of this folder import `serving_server`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def shared_server():
    from serving_server import Server

    return Server()


@pytest.fixture
def server(shared_server):
    """A server that tests may ask anything; those that count make one of their own."""
    shared_server.network.batches.clear()
    shared_server.network.fails_at = None
    return shared_server
