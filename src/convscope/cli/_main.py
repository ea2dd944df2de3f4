"""Assembles the commands, and turns errors into one line and an exit code."""

import errno
import io
import logging
import os
import sys
import traceback

import typer

from convscope import __version__, interrupts
from convscope.backend import only_our_own_use
from convscope.cli import (
    cache,
    catalogue,
    compare,
    data,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    gallery,
    ladder,
    models,
    predict,
    report,
    robustness,
    runs,
    serve,
    similar,
    studio,
    train,
    tune,
    tutorial,
)
from convscope.cli._closed_output import let_readers_leave
from convscope.errors import ConvscopeError, MissingExtraError, StorageError
from convscope.progress import dropped_if_broken
from convscope.wording import lack_of_memory, printable

app = typer.Typer(
    name="convscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Paragraphs flow to the width of the terminal.
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: convscope train --data digits   (seconds, nothing to download)",
)
app.command("train")(train.train)
app.command("ladder")(ladder.ladder)
app.command("tune")(tune.tune)
app.command("tutorial")(tutorial.tutorial)
app.command("compare")(compare.compare)
app.command("doctor")(doctor.doctor)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("gallery")(gallery.gallery)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)
app.command("studio")(studio.studio)
app.command("similar")(similar.similar)
app.command("embed")(embed.embed)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.command("datasets")(catalogue.datasets)
app.add_typer(catalogue.recipes, name="recipes")
app.command("report")(report.report)
app.command("robustness")(robustness.robustness)
app.add_typer(runs.app, name="runs")
app.add_typer(cache.app, name="cache")

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_OF_THE_MACHINE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOTDIR, errno.EISDIR, *_NO_SPACE),
)
"""Errors caused by a folder, a disk or the system, not by a defect of the program."""

EXTRA_OF = {
    "cleanlab": "train",
    "fsspec": "remote",
    "jax": "jax",
    "jinja2": "train",
    "keras": "train",
    "matplotlib": "train",
    "nicegui": "studio",
    "onnx": "train",
    "openvino": "openvino",
    "pillow_heif": "heic",
    "pooch": "train",
    "pyarrow": "train",
    "requests": "train",
    "scipy": "train",
    "sklearn": "train",
    "tensorflow": "train",
    "tf2onnx": "train",
    "threadpoolctl": "train",
    "torch": "torch",
}
"""Packages that are not in the base install, with the extra that installs each."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"convscope {__version__}")
        raise typer.Exit


@app.callback()
def convscope(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
    debug: bool = typer.Option(
        False,
        "--debug",
        help="Show the traceback of an error, not only one line. Also: CONVSCOPE_DEBUG=1.",
    ),
) -> None:
    """Train, compare and explain convolutional image classifiers.

    Every model takes raw 0..255 pixels of any size; scaling is inside it. Choices are made on
    validation images; the test images are opened once, at the end, and each opening is logged.
    """
    del version
    if debug:
        os.environ["CONVSCOPE_DEBUG"] = "1"


def main() -> None:
    """Run the command line and exit.

    Exit codes: 0 success, 1 failure, 2 mistake of the user, 130 Ctrl-C, 143 SIGTERM.
    """
    # Without a home folder matplotlib reports where it keeps its fonts, which concerns nobody.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As Python does for standard error: a file name in another encoding must not crash.
        # It is printed as \udcXX, which JSON reads back as the very same name.
        sys.stdout.reconfigure(errors="backslashreplace")
    let_readers_leave()
    interrupts.take_sigterm_as_interrupt()
    try:
        try:
            with only_our_own_use():
                app(standalone_mode=True)
        finally:
            # Now, while an error can be reported, and not when Python ends.
            if "convscope.remote" in sys.modules:
                sys.modules["convscope.remote"].settle_all()
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        # Typer turns Ctrl-C inside a command into an exit; this is one outside of it.
        sys.exit(interrupts.exit_code())
    except SystemExit as ended:
        if ended.code != 130:
            raise
        sys.exit(interrupts.exit_code())
    except Exception as error:
        # `storage_errors` reports files that cannot be written; this error has no file name.
        if isinstance(error, OSError) and error.errno in _NO_SPACE and error.filename is None:
            _drop_output()
            error = StorageError(
                f"cannot write the output ({error.strerror}); free some space, or redirect it "
                "elsewhere (files that convscope wrote are complete)"
            )
        if os.environ.get("CONVSCOPE_DEBUG"):
            traceback.print_exc()
        sys.exit(_complain(error))


def _drop_output() -> None:
    """Discard the rest of standard output; Python would complain at its end otherwise."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: Exception) -> int:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package in EXTRA_OF:
            error = MissingExtraError(package, EXTRA_OF[package])
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE and error.filename:
        error = StorageError(f"{error.filename!s} cannot be used ({error.strerror})")
    if isinstance(error, ConvscopeError):
        _print_error(str(error))
        return error.exit_code
    lack = lack_of_memory(error)
    if lack is not None:
        _print_error(
            f"not enough memory ({lack}); close other programs, or choose a smaller --batch-size "
            "or --image-size where the command takes them (--resume continues an interrupted "
            "training with the settings that it has)"
        )
        return 1
    text = str(error).strip().split("\n")[0] or "no message"
    _print_error(
        f"unexpected {type(error).__name__}: {text} "
        "(this is a bug in convscope; run with CONVSCOPE_DEBUG=1 for the traceback)"
    )
    return 1


def _print_error(text: str) -> None:
    # Elsewhere than in a terminal there is none by itself.
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    # If standard error is closed or full, the exit code has to suffice.
    with dropped_if_broken():
        typer.secho(
            "error: ", fg="red", bold=True, nl=False, err=True, color=False if plain else None
        )
        typer.echo(printable(text), err=True)
        if sys.stderr is not None:
            sys.stderr.flush()
