"""Signs of life."""

import datetime
import errno
import json
import os

import pytest

from convscope import heartbeat
from convscope.storage import write_text


@pytest.mark.parametrize(
    ("error", "alive"),
    [
        (None, True),
        (PermissionError(errno.EPERM, "it belongs to another user"), True),
        (ProcessLookupError(errno.ESRCH, "there is none"), False),
    ],
)
def test_a_process_of_another_user_is_alive(tmp_path, monkeypatch, error, alive):
    asked = []

    def kill(pid, signal):
        asked.append((pid, signal))
        if error is not None:
            raise error

    monkeypatch.setattr(os, "kill", kill)
    process = {**heartbeat.this_process(), "pid": 4711}
    at = datetime.datetime.now(datetime.UTC).isoformat()
    write_text(tmp_path / "beat", json.dumps({"at": at, **process}))
    assert heartbeat.is_alive(process, tmp_path / "beat") == alive
    assert asked == [(4711, 0)]
