"""Removing runs: named ones, or those without a result."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from convscope.errors import RunError
from convscope.remote import settle
from convscope.run import ROOT, Run
from convscope.storage import size_on_disk, storage_errors
from convscope.wording import command_line, quoted

_REMOVED = "removed.json"
"""Name of `run.json` once the removal of a run has begun: it is no longer a run."""

_WITHOUT_RESULT = ("created", "failed", "interrupted", "killed")


def remove_runs(runs: Iterable[Run | Path | str], *, force: bool = False) -> dict[Path, int]:
    """Remove runs with all their results; nothing is removed if one of them must not be.

    Links are not followed: the target of a link in a run stays.

    Args:
        runs: Runs, their folders, or their names below `runs/`.
        force: Whether to remove files that no command of convscope wrote.

    Returns:
        Freed bytes by folder.

    Raises:
        RunError: If one is not a run, is a link to one, is being trained, or holds foreign files.
        StorageError: If a file cannot be removed.
    """
    chosen = {run.path.resolve(): run for run in map(Run.open, runs)}
    for run in chosen.values():
        _require_removable(run, force=force)
    return {run.path: _remove(run) for run in chosen.values()}


def runs_without_result(root: Path = ROOT) -> list[Run]:
    """Return the runs directly below `root` that can be removed without a loss.

    They failed, were stopped or were killed before there was a trained model or a state to resume
    from, or their removal was not finished. A run that holds foreign files is not among them.

    Raises:
        RunError: If there is no such folder.
    """
    found = []
    for run in Run.find_all(root):
        try:
            if run.status in _WITHOUT_RESULT and not _has_result(run) and not run.is_locked:
                found.append(run)
        except RunError:
            continue  # its run.json is damaged: whether it has a result is unknown
    begun = [Run(path.parent) for path in sorted(root.glob(f"*/{_REMOVED}"))]
    found += [run for run in begun if not run.state_file.exists()]
    return [run for run in found if not run.path.is_symlink() and not run.foreign_names(_REMOVED)]


def remove_runs_without_result(root: Path = ROOT) -> dict[Path, int]:
    """Remove what `runs_without_result` returns, and return the freed bytes by folder.

    Raises:
        RunError: If there is no such folder.
        StorageError: If a file cannot be removed.
    """
    return {run.path: _remove(run) for run in runs_without_result(root)}


def end_of(run: Run) -> tuple[str, str]:
    """Return the status of a run without a result, and why it ended as far as known."""
    if not run.state_file.exists():
        return "half removed", ""
    return run.status, str(run.state.get("failure", {}).get("reason", ""))


def _require_removable(run: Run, *, force: bool) -> None:
    if run.path.is_symlink():
        raise RunError(
            f"{run.path} is a link to {run.path.resolve()}; remove that, or the link itself"
        )
    if run.is_locked:
        raise RunError(f"{run.path} is being trained; stop it first")
    foreign = run.foreign_names()
    if foreign and not force:
        again = command_line("runs", "rm", "--force", run.path)
        raise RunError(
            f"{run.path} also holds {quoted(sorted(foreign), 3)}, which convscope did not write; "
            f"move that away, or remove it too: {again}"
        )


def _has_result(run: Run) -> bool:
    saved = [run.weights("best"), run.weights("last"), run.snapshot_file, run.metrics_file]
    # A stopped search continues after what it tried.
    saved.append(run.search_dir)
    return any(path.exists() for path in saved)


def _remove(run: Run) -> int:
    folder = run.path.resolve()
    n_bytes = size_on_disk(folder)
    with storage_errors(folder):
        if run.state_file.exists():
            # From here on nobody finds it; if this is killed, `runs clean` completes the removal.
            with run.training_lock():
                os.replace(run.state_file, folder / _REMOVED)
        shutil.rmtree(folder)
    settle(run.path)
    return n_bytes
