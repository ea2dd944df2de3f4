"""A page that runs the model in a browser, by ONNX Runtime Web, and needs no network for it.

The page resizes as `images.fit` does, in its own script, since a canvas would average otherwise.
The runtime is not convscope's to hand on: it is copied from `node_modules`, or the user puts it
into the folder.
"""

import importlib.resources
import shlex
import shutil
from pathlib import Path
from typing import Any

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import Classifier as Exported
from convscope.classifier.spec import ClassifierSpec
from convscope.export import FORMATS, Format
from convscope.export._folder import write_sums
from convscope.export.onnx import PACKAGES, write_onnx

RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of the npm package onnxruntime-web, from its folder `dist`, that the page loads."""

_MODEL, _RUNTIME_FOLDER = "model.onnx", "ort"


@FORMATS.register("web")
def web() -> Format:
    """Web: a page that classifies in the browser, by ONNX Runtime Web."""
    return Format(_write, _open, "_web", True, PACKAGES, _what_is_next, _serving)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    path.mkdir()
    write_onnx(function, spec, path / _MODEL)
    write_page(path, spec)


def write_page(folder: Path, spec: ClassifierSpec) -> None:
    """Write the page beside a model, and ONNX Runtime Web where `node_modules` has it."""
    text = importlib.resources.files("convscope.export").joinpath("web.html").read_text("utf-8")
    (folder / "index.html").write_text(text, encoding="utf-8")
    write_sums(folder, spec)  # of convscope's files; the runtime may be replaced
    found = _installed_runtime()
    if found is not None:
        (folder / _RUNTIME_FOLDER).mkdir()
        for name in RUNTIME:
            shutil.copyfile(found / name, folder / _RUNTIME_FOLDER / name)


def _open(path: Path) -> Classifier:
    # The engine of this machine, with the file that the browser's one reads.
    return Exported(path / _MODEL)


def _installed_runtime() -> Path | None:
    """Return the folder `dist` of onnxruntime-web, where Node.js would find it from here."""
    here = Path.cwd()
    folders = (place / "node_modules/onnxruntime-web/dist" for place in (here, *here.parents))
    whole = (each for each in folders if all((each / name).is_file() for name in RUNTIME))
    return next(whole, None)


def _serving(path: Path) -> str:
    return f"python -m http.server --directory {shlex.quote(str(path))}"


def _what_is_next(path: Path) -> str:
    serve = _serving(path)
    if (path / _RUNTIME_FOLDER).is_dir():
        return f"To open the page: {serve}"
    place = path / _RUNTIME_FOLDER
    target = shlex.quote(str(place))
    files = " ".join(f"package/dist/{name}" for name in RUNTIME)
    return (
        f"The page needs ONNX Runtime Web in {place}: npm pack onnxruntime-web && mkdir {target} "
        f"&& tar xzf onnxruntime-web-*.tgz -C {target} --strip-components 2 {files}; then {serve}"
    )
