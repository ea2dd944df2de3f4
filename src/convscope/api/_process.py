"""Work in a process of its own, so that one cannot influence another."""

import subprocess

from convscope.progress import Progress


def follow(command: list[str], progress: Progress) -> str | None:
    """Run a command and hand on what it tells on standard error.

    Args:
        command: The program and its arguments.
        progress: Told of each line.

    Returns:
        None if it went well; else its last line, which says what was wrong.
    """
    last = ""
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.strip() and not _is_chatter(line):
                    last = line.strip()
                    progress.say(f"  {last}")
        except KeyboardInterrupt:
            # It was told too, and saves what it has.
            process.wait()
            raise
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return (
            f"its process was killed by signal {-process.returncode}"
            f"{' (out of memory?)' if process.returncode == -9 else ''}"
        )
    return last.removeprefix("error: ") or f"its process ended with {process.returncode}"


def _is_chatter(line: str) -> bool:
    """Tell whether a line comes from the engine below and says nothing to the user."""
    return line.startswith(("I0000", "WARNING: All log messages before absl", "E0000", "W0000"))
