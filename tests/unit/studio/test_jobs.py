"""Jobs of the studio: processes that outlive it, in a queue, with all that is known on disk."""

import contextlib
import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from convscope.heartbeat import this_process
from convscope.studio.jobs import Job, Jobs

PROGRAM = [sys.executable, "-S", "-c"]


def wait_for(job: Job, *statuses: str, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while job.status not in statuses:
        assert time.monotonic() < end, (job.status, job.last_line)
        time.sleep(0.05)
    return job.status


@pytest.fixture
def jobs(tmp_path):
    jobs = Jobs(tmp_path / "jobs", PROGRAM)
    yield jobs
    for job in jobs.active():
        job.stop()
        wait_for(job, "done", "failed", "stopped", "killed")


def test_a_job_keeps_its_output_its_last_line_and_how_it_ended(jobs):
    code = "import sys; print('{\"a\": 1}'); print('error: so it is', file=sys.stderr); sys.exit(3)"
    job = jobs.submit([code], kind="check", title="A check", about={"data": "x"})
    assert wait_for(job, "failed", "done") == "failed"
    # Another studio, or the same after a restart, reads it from the disk.
    (again,) = Jobs(jobs.folder).all()
    assert (again.code, again.last_line, again.result()) == (3, "so it is", {"a": 1})
    assert (again.title, again.kind) == ("A check", "check")
    assert Jobs(jobs.folder).newest("check", data="x").name == job.name
    assert Jobs(jobs.folder).newest("check", data="y") is None


@pytest.mark.skipif(os.name != "posix", reason="groups of processes are POSIX")
def test_heavy_jobs_wait_for_each_other_and_a_light_one_does_not(jobs):
    slow = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('saved')"
    first = jobs.submit([slow], kind="train", title="first")
    wait_for(first, "running")
    second = jobs.submit(["print(2)"], kind="train", title="second")
    third = jobs.submit(["print(3)"], kind="train", title="third")
    light = jobs.submit(["print(4)"], kind="predict", title="light", heavy=False)
    assert wait_for(light, "done") == "done"
    assert (second.status, third.status) == ("waiting", "waiting")
    assert [job.title for job in jobs.active()] == ["first", "second", "third"]
    # A job that waits is stopped before it began; one that runs saves what it has.
    third.stop()
    assert wait_for(third, "stopped") == "stopped"
    assert third.started == ""
    time.sleep(0.2)
    first.stop()
    assert wait_for(second, "done") == "done"
    assert first.status == "done"
    assert first.output_file.read_text() == "saved\n"
    assert first.ended <= second.started


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_job_whose_process_was_killed_is_seen_as_killed_and_blocks_nobody(jobs):
    job = jobs.submit(["import os, time; print(os.getppid()); time.sleep(60)"], kind="t", title="t")
    end = time.monotonic() + 60
    while not (job.output_file.exists() and job.output_file.read_text().endswith("\n")):
        assert time.monotonic() < end
        # The output of Python without a terminal comes at once: PYTHONUNBUFFERED.
        time.sleep(0.05)
    worker = int(job.output_file.read_text())
    child = next(
        int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == worker
    )
    os.kill(worker, signal.SIGKILL)
    try:
        assert wait_for(job, "killed") == "killed"
        after = jobs.submit(["print(1)"], kind="t", title="after")
        assert wait_for(after, "done") == "done"
    finally:
        os.kill(child, signal.SIGKILL)


def _parent(pid: str) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_the_log_of_the_backend_is_not_what_a_job_says(tmp_path):
    chatter = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1795962320.958083   20697 port.cc:153] oneDNN custom operations are on.",
        "2026-11-29 14:53:20.958083: I tensorflow/core/util/port.cc:153] oneDNN custom",
        "To enable the following instructions: AVX2, in other operations, rebuild TensorFlow",
        "",
    ]
    job = Job(tmp_path)
    job.log_file.write_text("\n".join(chatter))
    assert job.last_line == ""
    job.log_file.write_text("\n".join(["Reading photos", *chatter]))
    assert job.last_line == "Reading photos"
    # A fatal line is the reason of an end.
    job.log_file.write_text("F0000 00:00:1795962320.958083 20697 tsl.cc:1] out of memory\n")
    assert job.last_line.endswith("out of memory")


def test_exit_codes_with_a_result_are_no_failure_and_without_one_they_are(jobs):
    result = "print('{}'); raise SystemExit(1)"
    job = jobs.submit([result], kind="check", title="c", success=[1])
    assert wait_for(job, "done", "failed") == "done"
    reason = "raise SystemExit('error: no image can be read')"
    job = jobs.submit([reason], kind="check", title="c", success=[1])
    assert wait_for(job, "done", "failed") == "failed"
    assert job.last_line == "no image can be read"


@pytest.mark.parametrize(
    ("worker", "silent_s", "status"),
    [
        ({}, 0, "running"),
        ({}, 600, "killed"),
        ({"pid": 2**22 + 1}, 0, "killed" if os.name == "posix" else "running"),
        ({"host": "another"}, 0, "running"),
        ({"host": "another"}, 600, "killed"),
    ],
)
@pytest.mark.parametrize("has_locks", [False, True])
def test_without_locks_and_on_another_host_a_job_lives_by_its_heartbeat(
    tmp_path, monkeypatch, has_locks, worker, silent_s, status
):
    @contextlib.contextmanager
    def exclusive(path, *, wait):
        yield has_locks

    monkeypatch.setattr(sys.modules[Job.__module__], "exclusive", exclusive)
    job = Job(tmp_path)
    (tmp_path / "worker.json").write_text(json.dumps(this_process() | worker))
    beat = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=silent_s)
    job.heartbeat_file.write_text(json.dumps({"at": beat.isoformat()}))
    job.write_start()
    # A lock that can be taken on the host of the process is free.
    assert job.status == ("killed" if has_locks and "host" not in worker else status)


def test_a_job_at_work_says_who_works_and_beats(jobs):
    # Its own folder is the only one.
    code = "import os, sys; print(*os.listdir(*os.scandir(sys.argv[1])))"
    job = jobs.submit([code, jobs.folder], kind="t", title="t")
    assert wait_for(job, "done", "failed") == "done"
    assert {"worker.json", ".heartbeat"} <= set(job.output_file.read_text().split())
    assert not job.heartbeat_file.exists()


def test_a_job_that_was_lost_before_it_began_is_started_in_its_place(jobs):
    jobs.folder.mkdir(parents=True)
    lost = Job(jobs.folder / "20260101-0-train")
    lost.path.mkdir()
    order = {"words": ["print(7)"], "kind": "train", "title": "T", "heavy": True, "run": "runs/a"}
    (lost.path / "job.json").write_text(json.dumps({**order, "about": {"x": 1}}))
    assert (lost.status, lost.started) == ("killed", "")
    jobs.submit_again(lost)
    jobs.submit_again(lost)
    (job,) = jobs.all()
    assert wait_for(job, "done") == "done"
    assert (job.title, job.run, job.about, job.result()) == ("T", Path("runs/a"), {"x": 1}, 7)


def test_damaged_job_folders_are_no_jobs(jobs):
    jobs.folder.mkdir(parents=True)
    (jobs.folder / "x").mkdir()
    broken = jobs.folder / "y"
    broken.mkdir()
    (broken / "job.json").write_text("{")
    (job,) = jobs.all()
    assert (job.words, job.status, job.progress) == ((), "killed", {})
    assert jobs.active() == []


def test_progress_of_a_training_is_that_of_all_its_epochs(tmp_path):
    from convscope.studio.watch import progress_of

    job = Job(tmp_path)
    (tmp_path / "job.json").write_text(json.dumps({"run": str(tmp_path / "run")}))
    going = {"label": "epoch 3/10", "done": 50, "total": 100, "unit": "images", "seconds": 4.0}
    job.progress_file.write_text(json.dumps(going))
    # Of this epoch 4 s are left, and seven more take 8 s each.
    assert progress_of(job) == (0.25, "epoch 3/10: 50 of 100 images, at most 60 s left")
    # Within a search it is the time that counts.
    searching = Job(tmp_path / "search")
    searching.path.mkdir()
    words = ["train", "--data", "photos", "--minutes", "5", "--out", "runs/a"]
    (searching.path / "job.json").write_text(json.dumps({"words": words}))
    searching.write_start()
    searching.progress_file.write_text(json.dumps(going))
    share, line = progress_of(searching)
    assert 0 <= share < 0.1
    assert line == "epoch 3/10: 50 of 100 images"
    job.progress_file.write_text(json.dumps({**going, "label": "Predicting"}))
    assert progress_of(job) == (0.5, "Predicting: 50 of 100 images, 4 s left")


def test_progress_of_a_command_is_in_the_file_that_it_was_told(tmp_path, monkeypatch, capsys):
    from convscope.progress import console_progress

    file = tmp_path / "progress.json"
    monkeypatch.setenv("CONVSCOPE_PROGRESS_FILE", str(file))
    with console_progress().task("Reading", 40, "images") as step:
        assert json.loads(file.read_text())["done"] == 0
        time.sleep(0.51)
        step(10, "loss 1")
        found = json.loads(file.read_text())
    assert found | {"seconds": 0} == {
        "label": "Reading", "done": 10, "total": 40, "unit": "images", "seconds": 0,
        "note": "loss 1",
    }  # fmt: skip
    assert found["seconds"] > 0.5
    assert "Reading: 10 images" in capsys.readouterr().err
