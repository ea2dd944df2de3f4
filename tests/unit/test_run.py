import contextlib
import json
import signal

import pytest

from convscope import interrupts
from convscope.errors import RunError
from convscope.run import FORMAT, Run


def test_two_runs_never_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = Run.create(None, "a"), Run.create(None, "a")
    assert (first.path.as_posix(), second.path.as_posix()) == ("runs/a", "runs/a-2")
    taken = tmp_path / "mine"
    Run.create(taken, "a").record(status="created")
    with pytest.raises(RunError, match="not empty.*--resume"):
        Run.create(taken, "a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="not empty.*another --out"):
        Run.create(tmp_path / "other", "a")
    with pytest.raises(RunError, match="is a file"):
        Run.create(tmp_path / "other" / "letter.txt", "a")


def test_an_empty_folder_may_be_used(tmp_path):
    assert Run.create(tmp_path, "a").path == tmp_path


def test_open_finds_by_path_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Run.create(None, "a").record(status="created")
    assert Run.open("a").path == Run.open("runs/a").path
    with pytest.raises(RunError, match="does not exist"):
        Run.open("b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="is not a run folder"):
        Run.open("empty")


def test_a_run_of_a_newer_version_is_refused(tmp_path):
    run = Run.create(tmp_path / "a", "a")
    run.write_json(run.state_file, {"format": FORMAT + 1})
    with pytest.raises(RunError, match="newer convscope"):
        Run.open(tmp_path / "a")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00\xff", '{"a": ' * 9999])
def test_a_damaged_state_is_one_clear_line(tmp_path, content):
    run = Run.create(tmp_path / "a", "a")
    run.state_file.write_text(content)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        _ = run.state


def test_every_opening_of_the_test_set_is_logged(tmp_path):
    run = Run.create(tmp_path / "a", "a")
    run.record(status="trained")
    run.record_test_opening(by="train", weights="last", n_images=7)
    run.record_test_opening(by="evaluate", weights="best", n_images=7)
    openings = json.loads(run.state_file.read_text())["test_openings"]
    assert [(row["by"], row["weights"], row["n_images"]) for row in openings] == [
        ("train", "last", 7),
        ("evaluate", "best", 7),
    ]
    assert run.status == "trained"


def test_status_tells_a_killed_run_from_a_running_one(tmp_path):
    run = Run.create(tmp_path / "a", "a")
    run.record(status="training")
    assert run.status == "killed"
    with run.training_lock():
        assert run.status == "training"
        with pytest.raises(RunError, match="another process"), run.training_lock():
            pass


@pytest.fixture
def ctrl_c():
    """Ctrl-C does what it does in a Python program; a test runner's workers may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_an_error_of_cleaning_up_after_ctrl_c_is_still_ctrl_c(tmp_path):
    run = Run.create(tmp_path / "run", "run")

    def training() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            raise AssertionError

    with pytest.raises(KeyboardInterrupt), run.recording_status():
        training()
    assert run.status == "interrupted"


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_that_python_ignored_comes_again_at_the_next_check(tmp_path):
    run = Run.create(tmp_path / "run", "run")

    def training() -> None:
        interrupts.check()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupts.check()
        went_on.append(True)

    went_on: list[bool] = []
    with pytest.raises(KeyboardInterrupt), run.recording_status():
        training()
    assert not went_on
    assert run.status == "interrupted"
    interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_python_tells_of_ignored_errors_but_not_of_ctrl_c(tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", "run")
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda ignored: told.append(ignored.exc_type))

    class Finalised:
        def __init__(self, end):
            self.end = end

        def __del__(self):
            self.end()

    def training() -> None:
        Finalised(lambda: 1 / 0)
        Finalised(lambda: signal.raise_signal(signal.SIGINT))
        interrupts.check()

    with pytest.raises(KeyboardInterrupt), run.recording_status():
        training()
    assert told == [ZeroDivisionError]
    Finalised(lambda: signal.raise_signal(signal.SIGINT))
    assert told == [ZeroDivisionError, KeyboardInterrupt]


def test_how_training_ended_is_recorded(tmp_path):
    run = Run.create(tmp_path / "a", "a")
    for error, status in ((KeyboardInterrupt, "interrupted"), (ValueError, "failed")):
        with pytest.raises(error), run.recording_status():
            raise error
        assert run.status == status
    with run.recording_status():
        pass
    assert run.status == "trained"


def test_no_metrics_yet_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match="convscope evaluate"):
        _ = Run.create(tmp_path / "a", "a").metrics
