"""Exported models that are folders: spec and checksums beside the model's files."""

import hashlib
import re
from pathlib import Path

from convscope.classifier.spec import ClassifierSpec
from convscope.errors import IntegrityError, RunError
from convscope.images.fit import PADDING

SPEC_FILE = "spec.json"
SUMS_FILE = "SHA256SUMS"

_FITTED = {
    "squash": "squashed to that size",
    "crop": "the middle of that aspect ratio, resized",
    "pad": f"resized as a whole, between bars of {PADDING}",
}


def code_with(spec_file: Path, imports: str, code: str) -> str:
    """Return code in Python that uses an exported model, with what it has to know of the spec.

    Args:
        spec_file: File of the spec, in the exported folder or beside the exported file.
        imports: Lines that import the engine.
        code: Lines that make `probs`, the model's answers, from `pixels`.
    """
    opened, line = code.rsplit("\n", 1)
    return (
        f"import json\nfrom pathlib import Path\n\n{imports}\n\n{opened}\n"
        f'names = json.loads(Path({str(spec_file)!r}).read_text("utf-8"))["class_names"]\n'
        f"{_about_pixels(spec_file)}\n{line}\nprint(dict(zip(names, probs[0])))"
    )


def _about_pixels(spec_file: Path) -> str:
    """Return the comment on a model's input; without numbers if its spec is not there."""
    try:
        spec = ClassifierSpec.read(spec_file)
    except RunError:
        return "# pixels: uint8, (batch, height, width, channels), upright"
    colours = "RGB (not OpenCV's BGR)" if spec.channels == 3 else "grey"
    if "resizing" in spec.in_graph:
        shape = f"(batch, height, width, {spec.channels}) of any size, resized inside"
    else:
        shape = (
            f"(batch, {spec.height}, {spec.width}, {spec.channels}), "
            f"{_FITTED[spec.fit]} with Pillow's BILINEAR"
        )
    return f"# pixels: uint8, {colours}, turned upright as the file's EXIF says,\n# {shape}"


def model_name(spec: ClassifierSpec) -> str:
    """Return the name of a model on a server: that of its run, in letters that addresses have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", spec.run_id).strip("-") or "classifier"


def version_in(repository: Path, spec: ClassifierSpec) -> Path:
    """Return the folder of a model's first version in a model repository."""
    return repository / model_name(spec) / "1"


def write_sums(folder: Path, spec: ClassifierSpec) -> None:
    """Write the spec, and the checksums of all files in the format of `sha256sum`."""
    (folder / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
    (folder / SUMS_FILE).write_text(_sums(folder), encoding="utf-8")


def open_folder(folder: Path) -> ClassifierSpec:
    """Return the spec of an exported folder after checking all of its files.

    Raises:
        IntegrityError: If a file was changed, is missing or was added.
        RunError: If the spec cannot be used.
    """
    try:
        written = (folder / SUMS_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        written = ""
    if written != _sums(folder):
        raise IntegrityError(
            f"{folder} is damaged, or not a model that convscope exported: its files do not match "
            f"{SUMS_FILE}; copy or export it again"
        )
    return ClassifierSpec.read(folder / SPEC_FILE)


def _sums(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS_FILE)
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
    )
    return "".join(lines)
