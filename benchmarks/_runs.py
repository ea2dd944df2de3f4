"""Runs of `convscope train`, each a process of its own, so that one cannot influence another."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from convscope.run import Run


def trained(folder: Path, *arguments: str) -> Run:
    """Return a finished run: the one that is there, or a new one, or a broken-off one resumed.

    A run that is there with other arguments is refused.

    What the whole command took goes to `cost.json` beside the run's own files, unless it was
    resumed: {"wall_seconds": ..., "cpu_seconds": ...}.
    """
    asked = folder.with_name(f"{folder.name}.arguments.json")
    if asked.exists() and json.loads(asked.read_text()) != list(arguments):
        sys.exit(f"{folder} was trained with other arguments; give another --out")
    asked.parent.mkdir(parents=True, exist_ok=True)
    asked.write_text(json.dumps(arguments) + "\n")
    begun = (folder / "run.json").exists()
    if not begun or Run.open(folder).status != "finished":
        command = [sys.executable, "-m", "convscope", "train", "--out", str(folder), "--resume"]
        before, start = _cpu_of_children(), time.perf_counter()
        subprocess.run([*command, *arguments], check=True)
        if not begun:
            cost = {
                "wall_seconds": time.perf_counter() - start,
                "cpu_seconds": _cpu_of_children() - before,
            }
            (folder / "cost.json").write_text(json.dumps(cost) + "\n")
    return Run.open(folder)


def cost_of(run: Run) -> dict[str, float] | None:
    """Return what the command took; None of a run that was broken off."""
    file = run.path / "cost.json"
    return json.loads(file.read_text()) if file.exists() else None  # type: ignore[no-any-return]


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
