"""Formats in which a trained classifier leaves convscope, one per file, and the check of each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.registry import Registry

if TYPE_CHECKING:
    from convscope.classifier.classify import Classifier
    from convscope.classifier.spec import ClassifierSpec
    from convscope.progress import Progress
    from convscope.types import Images


@dataclass(frozen=True)
class Int8:
    """How a format of single files computes in 8-bit integers, and what that has to gain.

    What `Format.open` returns then has a `network.outputs(images, names)`, see `engines.OUTPUTS`.

    Attributes:
        quantize: Function that returns a model in float32 and in int8, as bytes without a spec:
            `quantize(function, images, progress)`, with the function that `Format.write` gets, and
            with training images, which show the ranges of its values.
        least_speedup: How many times as fast as in float32 it has to be on this machine, at a
            batch of 1 or of 64; 0 for a format whose files run on other machines.
        largest_share: Share of the size in float32 that its file may have at most.
    """

    quantize: "Callable[[Any, Images, Progress], tuple[bytes, bytes]]"
    least_speedup: float = 0.0
    largest_share: float = 1.0


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
        int8: How its models compute in 8-bit integers; None if they cannot.
    """

    write: "Callable[[Any, ClassifierSpec, Path], None]"
    open: "Callable[[Path], Classifier]"
    suffix: str
    any_size: bool
    packages: tuple[tuple[str, str], ...] = ()
    note: "Callable[[Path], str] | None" = None
    usage: "Callable[[Path], str] | None" = None
    int8: Int8 | None = None

    @property
    def is_folder(self) -> bool:
        """Whether a model of this format is a folder, whose name may be any, and not one file."""
        return not self.suffix.startswith(".")


FORMATS: Registry[Callable[[], Format]] = Registry(
    "format", "convscope.export", group="convscope.formats"
)
"""Functions by name, each of which returns a `Format`."""
