import contextlib
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from convscope import heartbeat, interrupts
from convscope.errors import LockTakenError, RunError
from convscope.housekeeping.runs import remove_runs, runs_without_result
from convscope.run import FORMAT, Run
from convscope.studies.folder import as_read_back


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


def test_a_file_of_the_user_keeps_a_folder_from_being_taken(tmp_path):
    mine = tmp_path / "config.yaml"
    mine.write_text("epochs: 3")
    (tmp_path / ".lock").touch()  # of a run that was removed
    with pytest.raises(RunError, match="not empty.*another --out"):
        Run.create(tmp_path, "a")
    # Beside a heartbeat it is of a process that was killed before there was a run.
    (tmp_path / ".heartbeat").touch()
    assert Run.create(tmp_path, "a").path == tmp_path
    assert mine.read_text() == "epochs: 3"


@pytest.mark.parametrize("name", ["../../escaped", "..", "a/../../b", "\\x", "c:x", "/x", "a\0b"])
def test_a_folder_named_after_a_dataset_is_below_the_folder_of_runs(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run = Run.create(None, f"{name}-cnn-sequential-tutorial-seed0")
    assert run.path.resolve().parent == tmp_path / "here" / "runs"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "here"]


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
    Run.create(tmp_path / "study" / "rungs" / "02", "a")
    Run.create(tmp_path / "study" / "rungs" / "01", "a").record(status="created")
    with pytest.raises(RunError, match="name a run in it, such as study/rungs/01$"):
        Run.open("study")


@pytest.mark.parametrize(
    ("place", "called"),
    [("runs/first", "first"), ("first", "first"), ("cmp/runs/first", "cmp/runs/first")],
)
def test_a_run_is_called_what_finds_it(place, called, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run.create(Path(place), "a")
    run.record(status="created")
    assert run.called == Path(called)
    assert Run.open(called).path.resolve() == run.path.resolve()
    absolute = Run(tmp_path / place)
    assert Run.open(absolute.called).path.resolve() == run.path.resolve()


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


@pytest.mark.parametrize(
    ("file", "entry", "value"),
    [
        ("run.json", "test_openings", 5),
        ("run.json", "test_openings", [1]),
        ("run.json", "input", {"height": 8}),
        ("run.json", "input", {"height": 8, "width": "8", "channels": 1, "scaling": "unit"}),
        ("run.json", "provenance", [1]),
        ("run.json", "created", 7),
        ("run.json", "failure", "out of memory"),
        ("run.json", "peak_memory_mb", True),
        ("run.json", "image_shape", [8, 8]),
        ("metrics.json", "val", [1]),
        ("metrics.json", "test", {"accuracy": "high"}),
        ("metrics.json", "val", {"accuracy": None}),
        ("metrics.json", "val", {"per_class": {"cat": {"f1": "high"}}}),
        ("metrics.json", "val", {"accuracy_interval_95": [0.1]}),
        ("metrics.json", "weights", 1),
    ],
    ids=str,
)
def test_an_entry_of_another_kind_is_one_clear_line(tmp_path, file, entry, value):
    run = Run.create(tmp_path / "a", "a")
    run.write_json(run.path / file, {entry: value})
    with pytest.raises(RunError, match=rf"{file} is damaged: '{entry}' is not what convscope"):
        _ = run.state if file == "run.json" else run.metrics


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


LOG_40_OPENINGS = """
import sys
from pathlib import Path
from convscope.run import Run
run = Run(Path(sys.argv[1]))
print("ready", flush=True)
input()
for _ in range(40):
    run.record_test_opening(by=sys.argv[2], weights="last", n_images=7)
"""


def test_two_processes_that_log_openings_lose_none(tmp_path):
    run = Run.create(tmp_path / "a", "a")
    run.record(status="trained")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", LOG_40_OPENINGS, str(run.path)]
    processes = [subprocess.Popen([*command, by], **pipes) for by in ("evaluate", "robustness")]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    told = [opening["by"] for opening in run.state["test_openings"]]
    assert sorted(told) == ["evaluate"] * 40 + ["robustness"] * 40
    assert run.state["status"] == "trained"


def test_threads_that_change_different_entries_lose_none(tmp_path):
    run = Run.create(tmp_path / "a", "a")

    def work(name: str) -> None:
        for number in range(40):
            run.record(**{f"{name}{number}": number})

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {f"{name}{n}": n for name in "ab" for n in range(40)}.items() <= run.state.items()


def left_by(run: Run, *, host: str, pid: int, seconds_ago: float) -> None:
    """Make a run look as a trainer leaves it that gave its last sign of life then."""
    run.record(status="training")
    now = datetime.datetime.now(datetime.UTC)
    at = now - datetime.timedelta(seconds=seconds_ago)
    run.write_json(run.path / ".heartbeat", {"at": at.isoformat(), "host": host, "pid": pid})


HERE = heartbeat.this_process()["host"]


@pytest.fixture
def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_of_another_host_is_alive_while_it_gives_signs_of_life(tmp_path, ended_pid):
    run = Run.create(tmp_path / "a", "a")
    # Its number may be that of no process here.
    for pid in (1, ended_pid):
        left_by(run, host="elsewhere", pid=pid, seconds_ago=heartbeat.SILENT_S - 30)
        assert run.status == "training"
    left_by(run, host="elsewhere", pid=1, seconds_ago=heartbeat.SILENT_S + 30)
    assert run.status == "killed"
    (run.path / ".heartbeat").unlink()
    assert run.status == "killed"


def test_on_its_own_host_the_lock_counts_and_not_the_last_sign_of_life(tmp_path):
    run = Run.create(tmp_path / "a", "a")
    left_by(run, host=HERE, pid=os.getpid(), seconds_ago=0)
    assert run.status == "killed"
    with run.training_lock():
        (run.path / ".heartbeat").unlink()
        assert run.status == "training"


@pytest.mark.usefixtures("no_locks")
def test_without_locks_process_and_signs_of_life_count(tmp_path, ended_pid, capsys):
    run = Run.create(tmp_path / "a", "a")
    left_by(run, host=HERE, pid=os.getpid(), seconds_ago=0)
    assert run.status == "training"
    left_by(run, host=HERE, pid=ended_pid, seconds_ago=0)
    assert run.status == "killed"
    # Another process may have been given its number.
    left_by(run, host=HERE, pid=os.getpid(), seconds_ago=heartbeat.SILENT_S + 30)
    assert run.status == "killed"
    assert capsys.readouterr().err.count("without locks") == 1


def test_a_run_of_an_older_version_names_no_process_and_is_judged_by_its_lock(tmp_path):
    run = Run.create(tmp_path / "a", "a")
    run.write_json(run.state_file, {"format": 1, "status": "training"})
    assert run.status == "killed"
    with run.training_lock():
        assert run.status == "training"


def test_training_says_who_trains_and_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.02)
    run = Run.create(tmp_path / "a", "a")
    with run.training_lock(), run.recording_status():
        assert run.state["trainer"] == {"host": HERE, "pid": os.getpid()}
        first = heartbeat.last_beat(run.path / ".heartbeat")
        deadline = time.monotonic() + 10
        while heartbeat.last_beat(run.path / ".heartbeat") == first:
            assert time.monotonic() < deadline, "no further sign of life"
            time.sleep(0.01)
    assert not (run.path / ".heartbeat").exists()
    assert run.status == "trained"


def test_what_is_trained_on_another_host_is_not_trained_here_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    run = Run.create(tmp_path / "a", "a")
    monkeypatch.setattr(heartbeat, "this_process", lambda: {"host": "elsewhere", "pid": 7})
    with (
        heartbeat.beating(run.path / ".heartbeat"),
        pytest.raises(LockTakenError, match="is being trained by process 7 on elsewhere"),
        run.training_lock(),
    ):
        pass
    # The other host was switched off: no further sign of life comes.
    monkeypatch.undo()
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    left_by(run, host="elsewhere", pid=7, seconds_ago=10)
    with run.training_lock():
        pass
    assert capsys.readouterr().err.count("checking for 0 s whether it still is") == 2


@pytest.mark.parametrize("status", ["created", "failed"])
def test_a_run_is_at_work_before_its_status_says_so(tmp_path, status, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.4)
    run = Run.create(tmp_path / "a", "a")
    run.record(status=status)
    assert (run.status, run.is_locked) == (status, False)
    monkeypatch.setattr(heartbeat, "this_process", lambda: {"host": "elsewhere", "pid": 7})
    with heartbeat.beating(run.path / ".heartbeat"):
        assert (run.status, run.is_locked) == ("training", True)
        assert runs_without_result(tmp_path) == []
        with pytest.raises(RunError, match="is being trained; stop it first"):
            remove_runs([run])
        with pytest.raises(LockTakenError, match="process 7 on elsewhere"), run.training_lock():
            pass
    assert (run.status, run.is_locked) == (status, False)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_run_that_starts_is_not_started_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.4)
    run = Run.create(tmp_path / "a", "a")
    with (
        run.training_lock(),
        pytest.raises(LockTakenError, match=f"process {os.getpid()}"),
        run.training_lock(),
    ):
        pass


def test_a_sign_of_life_that_cannot_be_written_does_not_stop_training(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    beats = []

    def full(path, text):
        beats.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heartbeat, "write_text", full)
    with heartbeat.beating(tmp_path / "beat"):
        deadline = time.monotonic() + 10
        while len(beats) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)


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


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_record_of_the_environment_is_one_clear_line(tmp_path, content):
    run = Run(tmp_path)
    with pytest.raises(RunError, match=r"environment\.json is missing"):
        _ = run.environment
    run.environment_file.write_text(content)
    with pytest.raises(RunError, match=r"environment\.json is damaged"):
        _ = run.environment
    run.environment_file.write_text('{"keras": "3.15.1"}')
    assert run.environment == {"keras": "3.15.1"}


def test_commands_in_messages_can_be_pasted_whatever_the_folder_is_called(tmp_path):
    path = tmp_path / "my runs; really"
    run = Run.create(path, "")
    run.record(status="trained")
    with pytest.raises(RunError) as raised:
        _ = run.metrics
    _, _, command = str(raised.value).partition("run: ")
    assert shlex.split(command) == ["convscope", "evaluate", str(path)]
    with pytest.raises(RunError) as raised:
        Run.create(path, "")
    _, _, command = str(raised.value).partition("with: ")
    assert shlex.split(command) == ["convscope", "train", "--resume", str(path)]


def test_names_that_a_run_uses_are_spare_for_no_result(tmp_path):
    run = Run.create(tmp_path / "run", "run")
    run.record(status="trained")
    for name in (
        "export",
        "weights/last.keras",
        "run.json",
        "metrics-best.json",
        ".lock",
        "gallery.png",
    ):
        with pytest.raises(RunError, match="belongs to the run .*/run; choose another place"):
            Run.require_spare(run.path / "weights" / ".." / name)
    (tmp_path / "link").symlink_to(run.path / "weights")
    with pytest.raises(RunError, match="belongs to the run"):
        Run.require_spare(tmp_path / "link" / "last.keras")
    for place in (run.path / "export/x.onnx", run.path / "answers.csv", tmp_path / "run.json"):
        assert Run.require_spare(place) == place
    assert Run.require_spare(run.gallery_picture, run.gallery_picture) == run.gallery_picture


def test_numbers_of_numpy_are_written_as_others(tmp_path):
    Run.write_json(tmp_path / "a.json", {"seed": np.int64(3), "on": np.bool_(True)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"seed": 3, "on": True}
    assert as_read_back({"rates": np.array([0.5, 1.0]), "one": np.float32(0.5)}) == {
        **{"rates": [0.5, 1.0], "one": 0.5}
    }
    with pytest.raises(TypeError):
        Run.write_json(tmp_path / "b.json", {"what": object()})


def test_a_run_stays_the_same_in_another_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run.create(None, "a")
    run.record(status="trained")
    (tmp_path / "elsewhere").mkdir()
    assert run.path == Path("runs/a")
    monkeypatch.chdir(tmp_path / "elsewhere")
    run.record(status="finished")
    assert run.status == "finished"
    assert run.path == tmp_path / "runs/a"
    assert not list(Path().iterdir())
    monkeypatch.chdir(tmp_path)
    assert run.path == Path("runs/a")


def test_runs_of_one_folder_are_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Run.create(None, name).record(status="trained")
    assert Run.open("a") == Run.open("runs/a") == Run.open(tmp_path / "runs" / "a")
    assert Run.open("a") != Run.open("b")
    assert len({Run.open("a"), Run.open("a"), Run.open("b")}) == 2
    assert "a" not in Run.open("a")._own_names()
