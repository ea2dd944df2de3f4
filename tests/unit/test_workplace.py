"""Who works in a folder."""

import datetime
import json
import time

import pytest

from convscope import heartbeat, workplace
from convscope.storage import write_text


def test_on_its_own_host_the_lock_counts_and_nothing_is_waited_for(tmp_path, monkeypatch, capsys):
    # What a process of this host left that was killed a moment ago, and whose id is taken again.
    at = datetime.datetime.now(datetime.UTC).isoformat()
    file = tmp_path / workplace.HEARTBEAT
    write_text(file, json.dumps({"at": at, **heartbeat.this_process()}))
    assert heartbeat.is_alive(heartbeat.process_of(file), file)
    assert not workplace.is_taken(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    with workplace.at_work(tmp_path, "trained"):
        assert workplace.is_taken(tmp_path)
    assert capsys.readouterr().err == ""
