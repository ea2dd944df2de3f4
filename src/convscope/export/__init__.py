"""Formats in which a trained classifier leaves convscope, one per file, and the check of each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.registry import Registry

if TYPE_CHECKING:
    from convscope.classifier.classify import Classifier
    from convscope.classifier.spec import ClassifierSpec


@dataclass(frozen=True)
class Format:
    """A format of exported models.

    Attributes:
        write: Function that writes a model: `write(function, spec, path)`, with the TensorFlow
            function from `export.graph.build_function` and the spec of the exported model.
        open: Function that opens what `write` wrote, in the format's own engine.
        suffix: Ending of the file's name, with a dot (".onnx"), or of the folder's, without one
            ("_savedmodel").
        any_size: Whether a model of this format resizes images itself.
        packages: Packages that writing and opening need, by the extra that installs them.
        note: Function that returns a line for the user about what was written.
        usage: Function that returns how what was written is used: a command, or code in Python.
    """

    write: "Callable[[Any, ClassifierSpec, Path], None]"
    open: "Callable[[Path], Classifier]"
    suffix: str
    any_size: bool
    packages: tuple[tuple[str, str], ...] = ()
    note: "Callable[[Path], str] | None" = None
    usage: "Callable[[Path], str] | None" = None

    @property
    def is_folder(self) -> bool:
        """Whether a model of this format is a folder, whose name may be any, and not one file."""
        return not self.suffix.startswith(".")


FORMATS: Registry[Callable[[], Format]] = Registry(
    "format", "convscope.export", group="convscope.formats"
)
"""Functions by name, each of which returns a `Format`."""
