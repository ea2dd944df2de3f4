"""What `convscope doctor` prints of its findings."""

from pathlib import Path

import pytest

from convscope.cli.doctor import _print
from convscope.diagnosis import Diagnosis, Finding


@pytest.mark.parametrize(
    ("sure", "said"),
    [
        (None, "run is healthy: 1 trap checked, no alarm."),
        ("note", "run is healthy: 2 traps checked, no alarm, 1 note."),
        ("likely", "1 of 2 traps found in run."),
    ],
)
def test_a_note_is_no_alarm(sure, said, capsys):
    findings = {} if sure is None else {"guessing": Finding("It guesses.", "0.1", (), sure)}
    _print(Diagnosis(findings, ("scaling",), {}, ""), Path("run"))
    assert said in capsys.readouterr().out.splitlines()
