import io
import sys

import pytest
from rich.console import Console

from convscope import progress
from convscope.progress import ConsoleProgress, Progress, console_progress


def told_on(*, terminal: bool, width: int = 200) -> tuple[ConsoleProgress, io.StringIO]:
    """Progress that draws on a pretended terminal, or into a pretended log file."""
    stream = io.StringIO()
    drawn = ConsoleProgress()
    drawn.console = Console(
        file=stream, force_terminal=terminal, width=width, highlight=False, color_system=None
    )
    return drawn, stream


def test_the_base_class_is_silent(capsys):
    silent = Progress()
    silent.say("hello")
    with silent.task("Working", 3, "images") as step:
        step(1)
        step(2, "a note")
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_one_line_per_task_with_its_sum_and_last_note(capsys):
    drawn = ConsoleProgress()
    with drawn.task("epoch 1/2", 30, "images") as step:
        step(10, "loss 3")
        step(20, "loss 2")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("epoch 1/2: 30 images in 0.0 s (")
    assert line.endswith("images/s)  loss 2")


def test_a_long_task_tells_now_and_then_how_far_it_is(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    drawn, stream = told_on(terminal=False)
    with drawn.task("Packing", 100, "images") as step:
        for _ in range(100):
            now[0] += 1
            step(1, "fine")
    lines = stream.getvalue().splitlines()
    assert lines == [
        "Packing: 30 images in 30.0 s (1 images/s)  fine (30 %)",
        "Packing: 60 images in 60.0 s (1 images/s)  fine (60 %)",
        "Packing: 90 images in 90.0 s (1 images/s)  fine (90 %)",
        "Packing: 100 images in 100.0 s (1 images/s)  fine",
    ]


def test_bytes_are_told_in_megabytes_and_an_unknown_total_has_no_share(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    drawn, stream = told_on(terminal=False)
    with drawn.task("Downloading x", None, "B") as step:
        for _ in range(2):
            now[0] += 40
            step(4_000_000)
    assert stream.getvalue().splitlines() == [
        "Downloading x: 4.0 MB in 40.0 s (0.1 MB/s)",
        "Downloading x: 8.0 MB in 80.0 s (0.1 MB/s)",
        "Downloading x: 8.0 MB in 80.0 s (0.1 MB/s)",
    ]


def test_a_long_line_is_not_broken():
    drawn, stream = told_on(terminal=False, width=40)
    drawn.say("x" * 300)
    assert stream.getvalue() == "x" * 300 + "\n"


@pytest.mark.parametrize(
    ("total", "unit"), [(4, "images"), (None, "images"), (4, "B"), (None, "B")]
)
def test_a_terminal_gets_a_bar_that_gives_way_to_one_line(total, unit, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")  # a dumb one gets none
    drawn, stream = told_on(terminal=True)
    with drawn.task("Working", total, unit) as step:
        for _ in range(4):
            step(1, "note")
        # The bar is there while the work goes on.
        assert "Working" in stream.getvalue()
    text = stream.getvalue()
    # The bar is wiped (ESC [2K clears a line), and one line takes its place.
    assert text.splitlines()[-1].startswith("\x1b[1A\x1b[2KWorking: ")
    assert text.rstrip().endswith("note")


NAMES = ["[red]x[/red]", "Reading /data/[/b]/x", "[bold", "100 % [#ff0000]", ":smile:"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_in_names_are_no_markup(name, terminal):
    # Labels and notes carry the names of people's files.
    drawn, stream = told_on(terminal=terminal)
    drawn.say(name)
    assert stream.getvalue() == name + "\n"
    with drawn.task(name, 2, "images") as step:
        step(1, f"note {name}")
        step(1, f"note {name}")
    lines = stream.getvalue().splitlines()
    assert name in lines[-1]
    assert lines[-1].endswith(f"note {name}")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_failure_goes_through_and_claims_no_success(terminal):
    drawn, stream = told_on(terminal=terminal)

    def fail():
        with drawn.task("Working", 2, "images") as step:
            step(1)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert "images in" not in stream.getvalue()


def test_people_see_it_on_standard_error_if_there_is_one(monkeypatch, capsys):
    drawn = console_progress()
    assert isinstance(drawn, ConsoleProgress)
    drawn.say("hello")
    assert capsys.readouterr() == ("", "hello\n")
    monkeypatch.setattr(sys, "stderr", None)
    silent = console_progress()
    assert not isinstance(silent, ConsoleProgress)
    silent.say("hello")


def test_in_a_notebook_lines_go_to_standard_error(monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as kernels have it
    drawn = ConsoleProgress()
    drawn.say("hello")
    with drawn.task("Working", 1, "images") as step:
        step(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "hello"
    assert err.splitlines()[1].startswith("Working: 1 image in 0.0 s")
