"""Fail, and cut, every system call of writing a saved model and an export, one after the other.

    python benchmarks/injected_faults.py --out faults.json     # Linux, with strace

A process writes over an existing file while strace lets its N-th call of one kind fail (no room,
input/output error, no permission), for every N that there is, or kills it there. After each the
file must be the old one or the new one, whole by its own checksum, and after an error nothing else
may have been left. Conversion is done once, before: what is repeated, each time in a fork of one
prepared process, is opening the file in its engine, comparing, and writing. Prints a line for each
kind of call, and ends with exit code 1 if there was a third state.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np

CALLS = (
    *("openat", "write", "pwrite64", "writev", "fsync", "rename", "ftruncate", "fallocate"),
    *("chmod", "unlink", "mkdir", "copy_file_range", "sendfile", "lseek"),
)
ERRORS = ("ENOSPC", "EIO", "EACCES")
NAMES = {"model": "last.keras", "export": "digits.onnx"}
PATIENCE_S = 120


def prepare(folder: Path) -> None:
    """Train a small run, and another whose files are the old ones; export both."""
    code = (
        "import sys, convscope\n"
        "for seed, name in ((1, 'new'), (2, 'old')):\n"
        "    run = f'{sys.argv[1]}/{name}/run'\n"
        "    convscope.train('cnn-functional', data='digits', epochs=1, seed=seed,\n"
        "                    precision='float32', out=run)\n"
        "    convscope.export(run, out=f'{sys.argv[1]}/{name}/digits.onnx')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)


def model_writer(folder: Path) -> Callable[[], None]:
    """Return a function that writes a saved model as training does."""
    from convscope import backend
    from convscope.classifier.keras_model import load_model
    from convscope.models.saving import PortableModel
    from convscope.run import Run
    from convscope.types import InputSpec

    backend.configure("tensorflow")
    run = Run.open(folder / "new" / "run")
    weights = load_model(run.weights("last")).get_weights()
    model = PortableModel.of("cnn-functional", InputSpec(**run.state["input"]), 10)
    return lambda: model.save(weights, folder / "target" / NAMES["model"])


def export_writer(folder: Path) -> Callable[[], None]:
    """Return a function that writes an export as `convscope export` does after converting.

    The answers of the trained network are recorded: a framework could not run in a fork.
    """
    import convscope
    from convscope.classifier.classify import Classifier
    from convscope.classifier.exported import read_sealed
    from convscope.export import FORMATS, onnx, parity, writing
    from convscope.progress import Progress

    content, spec = read_sealed(folder / "new" / NAMES["export"])
    writing.build_function = lambda *args, **settings: None
    onnx.to_onnx = lambda function: content
    parity._SECONDS = 0.0  # its timing
    parity._MOST_FILES = parity._MOST_IMAGES = 4
    dataset = convscope.load("digits", progress=Progress())
    context = get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(_recorded(folder, dataset.val)))
    process.start()
    known = queue.get()
    process.join()

    class Recorded:
        def predict_on_batch(self, images: Any, /) -> Any:
            return known.get(images.tobytes(), np.zeros((len(images), 10), np.float32))

    trained = Classifier(Recorded(), spec)
    target = folder / "target" / NAMES["export"]
    form = FORMATS.get("onnx")()
    return lambda: writing.write_float32(trained, form, target, dataset, None, Progress())  # type: ignore[func-returns-value]


def _recorded(folder: Path, val: Any) -> dict[bytes, Any]:
    """Return the answers of an exported model to what it will be compared on."""
    import convscope
    from convscope.export import parity
    from convscope.types import evenly_spread

    model = convscope.Classifier(folder / "new" / NAMES["export"])
    rows = evenly_spread(len(val), parity._MOST_IMAGES)
    batches = [val.images[rows]]
    batches += [model.decode(each)[np.newaxis] for each in parity.files_of(val, None)]
    return {batch.tobytes(): model.predict_on_batch(batch) for batch in batches}


def work(kind: str, folder: Path) -> None:
    """Prepare; then, for each line that comes, write in a fork that waits for SIGCONT."""
    write = {"model": model_writer, "export": export_writer}[kind](folder)
    print("ready", flush=True)
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGSTOP)
            failed = 1
            with contextlib.suppress(BaseException):
                write()
                failed = 0
            os._exit(failed)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


class Writer:
    """A prepared process that writes on demand."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", kind, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._line(600)

    def _line(self, seconds: float) -> str | None:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        return self._process.stdout.readline().decode().strip()

    def write(self, inject: str | None) -> tuple[str, collections.Counter[str]]:
        """Write once under strace.

        Returns:
            How it ended: "written", "error", "killed" or "hung"; and the calls by kind, of the
                thread that makes most: strace counts those of each thread for itself.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        pid = int(self._line(60) or "")
        status = Path(f"/proc/{pid}/status")
        while "State:\tT" not in status.read_text():
            time.sleep(0.002)
        with tempfile.NamedTemporaryFile() as log:
            command = ["strace", "-f", "-qq", "-o", log.name, "-e", f"trace={','.join(CALLS)}"]
            command += ["-e", f"inject={inject}"] if inject else []
            tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.DEVNULL)
            while f"TracerPid:\t{tracer.pid}" not in status.read_text():
                time.sleep(0.002)
            os.kill(pid, signal.SIGCONT)
            ended = self._line(PATIENCE_S)
            hung = ended is None
            if hung:
                os.kill(pid, signal.SIGKILL)
                ended = self._line(60)
            tracer.wait(60)
            lines = log.read().decode(errors="replace").splitlines()
        by_thread: dict[str, collections.Counter[str]] = {}
        for thread, _, rest in (line.partition(" ") for line in lines):
            if (name := rest.strip().partition("(")[0]) in CALLS:
                by_thread.setdefault(thread, collections.Counter())[name] += 1
        most: collections.Counter[str] = collections.Counter()
        for counts in by_thread.values():
            most |= counts
        code = int(ended or 0)
        said = "killed" if os.WIFSIGNALED(code) else "error" if os.WEXITSTATUS(code) else "written"
        return "hung" if hung else said, most

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def state_of(target: Path, old: bytes, new: bytes) -> str:
    """Return "old", "new" or a description of anything else.

    A saved model is new by its weights: where Keras cannot write a temporary file it packs them in
    another way.
    """
    from convscope.engines.seal import require_whole as whole_export
    from convscope.models._checksum import require_whole as whole_model

    if not target.exists():
        return "missing"
    content = target.read_bytes()
    if content in (old, new):
        return "old" if content == old else "new"
    try:
        if target.suffix == ".onnx":
            whole_export(content, target)
        else:
            whole_model(target)
    except Exception as error:
        return f"damaged: {error}"
    if target.suffix == ".onnx":
        return "another file"
    try:
        found, expected = weights_in(content), weights_in(new)
    except (KeyError, OSError) as error:
        return f"without weights: {error}"
    same = found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )
    return "new" if same else "other weights"


def weights_in(model: bytes) -> dict[str, Any]:
    """Return the arrays of a .keras file by name."""
    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        stream = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stream) as file:
        file.visititems(keep)
    return found


def measure(kind: str, folder: Path) -> dict[str, Any]:
    name = NAMES[kind]
    target = folder / "target" / name
    target.parent.mkdir(exist_ok=True)
    writer = Writer(kind, folder)
    source = Path("run/weights") if kind == "model" else Path()
    old = (folder / "old" / source / name).read_bytes()
    target.write_bytes(old)
    ended, calls = writer.write(None)
    assert ended == "written"
    new = target.read_bytes()
    assert state_of(target, old, new) == "new"
    found: dict[str, Any] = {"calls": dict(calls), "cases": 0, "third": []}
    found |= {"states": collections.Counter(), "ended": collections.Counter()}
    for call, count in sorted(calls.items()):
        for what in (*(f"error={error}" for error in ERRORS), "signal=SIGKILL"):
            for number in range(1, count + 1):
                for left in (folder / "target").iterdir():
                    left.unlink()
                target.write_bytes(old)
                ended, _ = writer.write(f"{call}:{what}:when={number}")
                state = state_of(target, old, new)
                names = {path.name for path in target.parent.iterdir()}
                extra = names - {name, f"{name}.json"}
                found["cases"] += 1
                found["states"][state] += 1
                found["ended"][ended] += 1
                left_over = extra and ended in ("written", "error")
                if state not in ("old", "new") or left_over or ended == "hung":
                    found["third"].append([call, what, number, ended, state, sorted(extra)])
        print(f"{kind:8}{call:16}{count:5} calls  {dict(found['states'])}", flush=True)
    writer.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    parser.add_argument(
        "--folder", type=Path, help="Folder of an earlier call: nothing is trained."
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker[0], Path(args.worker[1]))
        return
    content = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "old" / NAMES["export"]).exists():
            prepare(folder)
        for kind in NAMES:
            content[kind] = measure(kind, folder)
            ended = dict(content[kind]["ended"])
            print(kind, content[kind]["cases"], "cases", ended, "third:", content[kind]["third"])
            if args.out:
                args.out.write_text(json.dumps(content, indent=2))
    sys.exit(any(each["third"] for each in content.values()))


if __name__ == "__main__":
    main()
