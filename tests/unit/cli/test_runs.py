"""`convscope runs rm` and `convscope runs clean`."""

import os
import shutil
import subprocess
import sys

import pytest

from convscope.housekeeping import runs as removing
from convscope.run import Run

posix = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")


def make(path, *, saved=False, **state) -> Run:
    run = Run.create(path, "")
    run.record(**state)
    run.config_file.write_text("epochs: 1\n")
    if saved:
        run.weights_dir.mkdir()
        run.weights("best").write_bytes(b"x" * 1000)
    return run


@pytest.fixture
def home(tmp_path):
    """Runs of every kind below runs/."""
    root = tmp_path / "runs"
    make(root / "good", saved=True, status="finished").exports_dir.mkdir()
    make(root / "stopped", saved=True, status="interrupted")
    make(root / "resumable", status="interrupted").weights_dir.mkdir()
    Run(root / "resumable").snapshot_file.write_bytes(b"x")
    make(root / "failed", status="failed", failure={"kind": "TrainingError", "reason": "NaN loss"})
    make(root / "early", status="interrupted")
    make(root / "killed", status="training")
    make(root / "made", status="created")
    make(root / "notes", status="failed")
    (root / "notes" / "thoughts.txt").write_text("mine")
    make(root / "damaged", status="failed").state_file.write_text("{")
    (root / "photos").mkdir()
    (root / "photos" / "cat.png").write_bytes(b"x")
    return root


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_rm_removes_what_is_named_by_folder_or_name_and_nothing_else(cli, home):
    before = names(home)
    done = cli("runs", "rm", "good", home / "stopped", "good")
    assert done.code == 0
    assert done.err == ""
    first, second = done.out.splitlines()
    assert first.startswith("removed runs/good (1.")
    assert "kB)" in first
    assert second.startswith(f"removed {home / 'stopped'} (")
    assert names(home) == before - {"good", "stopped"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("photos", "is not a run folder (it holds no run.json)"),
        ("photos/cat.png", "(it holds no run.json); exported files, which predict, serve and "),
        ("nowhere", "does not exist"),
        ("notes", "also holds 'thoughts.txt', which convscope did not write"),
        ("damaged", "is damaged"),
    ],
)
def test_rm_removes_none_if_one_of_them_must_not_be(fails, home, name, told):
    before = names(home)
    assert told in fails(2, "runs", "rm", "good", home / name)
    assert names(home) == before
    assert names(home / "good") >= {"run.json", "config.yaml", "weights"}


def test_rm_takes_files_of_others_along_only_if_it_is_forced(cli, fails, home):
    line = fails(2, "runs", "rm", "notes")
    assert line.endswith("remove it too: convscope runs rm --force runs/notes\n")
    assert cli("runs", "rm", "--force", "notes").code == 0
    assert not (home / "notes").exists()


TRAINING = """
import sys
from pathlib import Path
from convscope.run import Run
with Run(Path(sys.argv[1])).training_lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["killed", "made"])
def test_a_run_that_another_process_trains_is_never_removed(cli, fails, home, name):
    # "made" has not come as far as to say that it trains; the lock tells.
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, home / name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as trainer:
        assert trainer.stdout.readline() == "locked\n"
        told = fails(2, "runs", "rm", name)
        assert f"runs/{name} is being trained" in told
        assert name not in {run.name for run in removing.runs_without_result(home)}
        assert (home / name / "run.json").exists()
        trainer.stdin.close()
        assert trainer.wait() == 0
    assert name in {run.name for run in removing.runs_without_result(home)}
    assert cli("runs", "rm", name).code == 0


def test_clean_lists_first_and_removes_what_nothing_came_of(cli, home):
    before = names(home)
    useless = {"failed", "early", "killed", "made"}
    listed = cli("runs", "clean")
    assert listed.code == 0
    rows = {line.split()[0]: line for line in listed.out.splitlines()[1:-2]}
    assert rows.keys() == useless
    assert rows["failed"].split()[1] == "failed"
    assert "NaN loss" in rows["failed"]
    assert rows["killed"].split()[1] == "killed"
    last = listed.out.splitlines()[-1]
    assert last == "Nothing was removed yet; to remove them: convscope runs clean --yes"
    assert names(home) == before
    done = cli("runs", "clean", "--yes")
    assert done.out.startswith("4 runs removed, ")
    assert names(home) == before - useless
    assert "each run below runs has a result" in cli("runs", "clean").out


def test_clean_names_the_folder_that_it_was_given(cli, home):
    moved = home.rename(home.with_name("my runs"))
    listed = cli("runs", "clean", moved)
    assert listed.out.endswith(f"convscope runs clean '{moved}' --yes\n")
    assert cli("runs", "clean", moved, "-y").out.startswith("4 runs removed")


@posix
def test_links_are_not_followed(cli, fails, home, tmp_path):
    far = make(tmp_path / "elsewhere" / "far", status="failed")
    (home / "link").symlink_to(far.path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.txt").write_text("mine")
    (home / "early" / "weights").symlink_to(outside)
    line = fails(2, "runs", "rm", "link")
    assert f"runs/link is a link to {far.path}" in line
    assert "link" not in {run.name for run in removing.runs_without_result(home)}
    assert cli("runs", "rm", "early").code == 0
    assert names(outside) == {"keep.txt"}
    assert far.state_file.exists()
    # The folder of runs may be a link: that is where they are.
    (tmp_path / "shortcut").symlink_to(home)
    assert cli("runs", "rm", tmp_path / "shortcut" / "failed").code == 0
    assert not (home / "failed").exists()


def test_a_removal_that_was_killed_is_finished_by_clean(cli, fails, home, monkeypatch):
    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        assert cli("runs", "rm", "good").code == 130
    # It is no run any more, for nobody.
    assert "is not a run folder" in fails(2, "evaluate", home / "good")
    assert "good" not in cli("runs").out
    listed = cli("runs", "clean").out
    assert "half removed" in next(line for line in listed.splitlines() if line.startswith("good"))
    cli("runs", "clean", "--yes")
    assert not (home / "good").exists()


def test_runs_without_a_command_lists_as_ever(cli, home):
    assert cli("runs").out == cli("runs", "list").out == cli("runs", "runs").out
    assert cli("runs", home).out == cli("runs", "list", home).out
    assert "good" in cli("runs").out


def test_nothing_is_removed_where_nothing_was_named(cli, home):
    before = names(home)
    assert cli("runs", "rm").code == 2
    assert names(home) == before
