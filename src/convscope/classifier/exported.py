"""The classifier in an exported file: NumPy, Pillow and an engine, but no framework."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convscope.classifier import classify
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import ENGINES
from convscope.engines.choice import AUTO, fastest_engine
from convscope.engines.external import require_self_contained
from convscope.engines.seal import checksum_of, fact_in, require_whole, sealed
from convscope.errors import ConfigError, RunError
from convscope.paths import user_path
from convscope.progress import Progress, console_progress
from convscope.wording import command_line

SPEC = "convscope.spec"
"""Key of the spec in the metadata of an exported file."""

SUFFIX = ".onnx"

_MAX_BYTES = 1 << 31


class Classifier(classify.Classifier):
    """A classifier that `convscope export` wrote, ready for use.

    For example:

        classifier = convscope.Classifier("cats.onnx")
        classifier.predict("cat.png").class_name

    A copy, or one that was pickled for another process, opens the file again. After a fork open it
    in the child: the threads of an engine stay in the parent.

    Args:
        path: ONNX file.
        engine: Registered engine ("onnxruntime", "openvino"), or "auto" for the installed one that
            is fastest here, which is measured once.
        threads: Number of threads; None takes all usable cores.
        shared: Whether others need the cores between batches, as in a server.
        progress: Called with the engine that "auto" chose; None draws on standard error.

    Attributes:
        path: File that it was read from.
        sha256: Checksum of the file.
        engine: Name of the engine.

    Raises:
        RunError: If it cannot be read, its model names other files, or a newer convscope wrote it.
        IntegrityError: If the file is damaged.
        ConfigError: If `threads` is below 1.
        UnknownNameError: If there is no such engine.
        MissingExtraError: If the engine is not installed.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        engine: str = "onnxruntime",
        threads: int | None = None,
        shared: bool = False,
        progress: Progress | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        self.path = user_path(path, "the path of the model")
        content, spec = read_onnx(self.path)
        if engine == AUTO:
            shape = (spec.height, spec.width, spec.channels)
            engine = fastest_engine(content, shape, threads, progress or console_progress())
        # Not as False: an engine need not know it until somebody serves with it.
        setting = {"shared": True} if shared else {}
        super().__init__(ENGINES.get(engine)(content, threads, **setting), spec)
        self.sha256 = checksum_of(content)
        self.engine = engine
        # The working folder may be another one when this is pickled.
        self._place = self.path.absolute()
        self._settings = {"engine": engine, "threads": threads, "shared": shared}

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (type(self), self._place, self.sha256, self._settings)


def _opened_again(
    kind: type[Classifier], path: Path, sha256: str, settings: Mapping[str, Any]
) -> Classifier:
    """Return the classifier that was pickled.

    Raises:
        RunError: If the file holds another one by now.
    """
    classifier = kind(path, **settings)
    if classifier.sha256 != sha256:
        raise RunError(f"{path} is another model than the one that was pickled")
    return classifier


def classifier_in(content: bytes, *, engine: str, threads: int) -> classify.Classifier:
    """Return the classifier in the bytes of an exported file that `read_onnx` returned.

    Args:
        content: Bytes.
        engine: Registered engine.
        threads: Number of threads.
    """
    spec = ClassifierSpec.from_json(fact_in(content, SPEC), "the exported file")
    return classify.Classifier(ENGINES.get(engine)(content, threads), spec)


def is_exported(path: Path | str) -> bool:
    """Return whether a path names an exported file, and not the folder of a run."""
    return os.fspath(path).lower().endswith(SUFFIX)


def export_first(run: Path, verb: str) -> RunError:
    """Return the error of a run's folder in the place of an exported file.

    Args:
        run: Folder of the run.
        verb: What is done with an exported file.
    """
    out = f"{run.absolute().name}.onnx"
    command = command_line("export", run, "--out", out)
    return RunError(f"{run} is a run; export it first, and {verb} {out}: {command}")


def require_no_weights(path: Path | str, weights: str | None) -> None:
    """Refuse a choice of weights of an exported file, which holds one set of them.

    Raises:
        ConfigError: If one was made.
    """
    if weights is not None:
        raise ConfigError(f"{path} holds one set of weights; omit --weights")


def with_spec(model: bytes, spec: ClassifierSpec) -> bytes:
    """Return the bytes of an exported file: a model with its spec and a checksum."""
    return sealed(model, {SPEC: spec.to_json()})


def read_onnx(path: Path) -> tuple[bytes, ClassifierSpec]:
    """Return the bytes of an exported ONNX file, and the spec in it.

    Raises:
        RunError: If it cannot be read, its model names other files, or a newer convscope wrote it.
        IntegrityError: If it is damaged.
    """
    content, spec = read_sealed(path)
    require_self_contained(content, path)
    return content, spec


def read_sealed(path: Path) -> tuple[bytes, ClassifierSpec]:
    """Return the bytes of an exported file of any format, and the spec in it.

    Raises:
        RunError: If it cannot be read, or a newer convscope wrote it.
        IntegrityError: If it is damaged.
    """
    if (path / "run.json").exists():
        raise export_first(path, "open")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RunError(f"{path} is over 2 GB, which no exported model is")
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    require_whole(content, path)
    try:
        return content, ClassifierSpec.from_json(fact_in(content, SPEC), str(path))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None
