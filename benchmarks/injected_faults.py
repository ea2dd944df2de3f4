"""Fail, and cut, every system call of writing a saved model and an export, one after the other.

    python benchmarks/injected_faults.py --out faults.json     # Linux, with strace; 20 minutes

A process writes over an existing file while strace lets its N-th call of one kind fail (no room,
input/output error, no permission), for every N that there is, or kills it there. After each the
file must be the old one or the new one, whole by its own checksum, and after an error nothing else
may have been left. Conversion and timing are done once, before: what is repeated is comparing and
writing. Prints a line for each kind of call, and ends with exit code 1 if there was a third state.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

CALLS = ("openat", "write", "pwrite64", "fsync", "rename", "ftruncate", "chmod", "unlink", "mkdir")
ERRORS = ("ENOSPC", "EIO", "EACCES")
PATIENCE_S = 600


def worker(work: str, folder: Path) -> None:
    """Prepare, and then write each time that SIGUSR1 comes; answer by SIGUSR2 when ready."""
    import convscope
    from convscope import backend
    from convscope.progress import Progress
    from convscope.run import Run

    backend.configure("tensorflow")
    source = Run.open(folder / "run")
    if work == "model":
        from convscope.classifier.keras_model import load_model
        from convscope.models.saving import PortableModel

        network: Any = load_model(source.weights("last"))
        spec = convscope.types.InputSpec(**source.state["input"])
        model = PortableModel.of("cnn-functional", spec, 10)
        weights = network.get_weights()

        def write() -> None:
            model.save(weights, folder / "target" / "last.keras")
    else:
        from convscope.export import onnx, parity, writing

        whole = onnx.to_onnx(writing.build_function(open_network(source), spec_of(source)))
        onnx.to_onnx = lambda function: whole
        parity._SECONDS = 0.0
        parity._MOST_FILES = parity._MOST_IMAGES = 4

        def write() -> None:
            target = folder / "target" / "digits.onnx"
            convscope.export(source, out=target, progress=Progress())

    write()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    while True:
        os.kill(os.getppid(), signal.SIGUSR2)
        signal.sigwait({signal.SIGUSR1})
        with contextlib.suppress(Exception):
            write()


def open_network(run: Any) -> Any:
    from convscope.classifier.keras_model import open_classifier

    return open_classifier(run).network


def spec_of(run: Any) -> Any:
    from convscope.classifier.keras_model import open_classifier

    return open_classifier(run).spec


class Writer:
    """A process that writes on demand, started again after a kill."""

    def __init__(self, work: str, folder: Path) -> None:
        self._command = [sys.executable, __file__, "--worker", work, str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def pid(self) -> int:
        """Return the identity of a process that is ready."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
            self.wait()
        return self._process.pid

    def wait(self) -> bool:
        """Wait until it is ready; return whether it lives."""
        assert self._process is not None
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if signal.sigtimedwait({signal.SIGUSR2}, 0.05) is not None:
                return True
            if self._process.poll() is not None:
                return False
        self._process.kill()
        self._process.wait()
        return False

    def write(self, inject: str | None) -> tuple[bool, collections.Counter[str]]:
        """Write once under strace; return whether it lives, and its calls by kind."""
        pid = self.pid()
        with tempfile.NamedTemporaryFile() as log:
            command = ["strace", "-f", "-qq", "-o", log.name, "-e", f"trace={','.join(CALLS)}"]
            command += ["-e", f"inject={inject}"] if inject else []
            tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.DEVNULL)
            status = Path(f"/proc/{pid}/status")
            while status.exists() and f"TracerPid:\t{tracer.pid}" not in status.read_text():
                time.sleep(0.005)
            os.kill(pid, signal.SIGUSR1)
            alive = self.wait()
            tracer.terminate()
            tracer.wait()
            lines = log.read().decode(errors="replace").splitlines()
        kinds = [line.split(None, 1)[1].partition("(")[0] for line in lines if "(" in line]
        return alive, collections.Counter(kind for kind in kinds if kind in CALLS)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
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
    if content == old:
        return "old"
    try:
        if target.suffix == ".onnx":
            whole_export(content, target)
        else:
            whole_model(target)
    except Exception as error:
        return f"damaged: {error}"
    if target.suffix == ".onnx":
        return "new" if content == new else "another file"
    found, expected = weights_in(content), weights_in(new)
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


def measure(work: str, folder: Path) -> dict[str, Any]:
    name = {"model": "last.keras", "export": "digits.onnx"}[work]
    target = folder / "target" / name
    writer = Writer(work, folder)
    writer.pid()
    new = target.read_bytes()
    _, calls = writer.write(None)
    old = (folder / "old" / name).read_bytes()
    found: dict[str, Any] = {"calls": dict(calls), "cases": 0, "states": collections.Counter()}
    found["third"] = []
    for kind, count in sorted(calls.items()):
        for what in (*(f"error={error}" for error in ERRORS), "signal=SIGKILL"):
            for number in range(1, count + 1):
                for left in (folder / "target").iterdir():
                    left.unlink()
                target.write_bytes(old)
                alive, _ = writer.write(f"{kind}:{what}:when={number}")
                state = state_of(target, old, new)
                names = {path.name for path in target.parent.iterdir()}
                extra = names - {name, f"{name}.json"}
                found["cases"] += 1
                found["states"][state] += 1
                if state not in ("old", "new") or (alive and extra):
                    found["third"].append([kind, what, number, state, sorted(extra)])
        print(f"{work:8}{kind:10}{count:5} calls  {dict(found['states'])}", flush=True)
    writer.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker[0], Path(args.worker[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    content = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        for work in ("model", "export"):
            content[work] = measure(work, folder)
            print(work, content[work]["cases"], "cases, third states:", content[work]["third"])
            if args.out:
                args.out.write_text(json.dumps(content, indent=2))
    sys.exit(any(each["third"] for each in content.values()))


def prepare(folder: Path) -> None:
    """Train a small run, and another whose files are the old ones."""
    code = (
        "import sys, convscope\n"
        "for seed, name in ((1, 'run'), (2, 'other')):\n"
        "    convscope.train('cnn-functional', data='digits', epochs=1, seed=seed,\n"
        "                    precision='float32', out=f'{sys.argv[1]}/{name}')\n"
        "convscope.export(f'{sys.argv[1]}/other', out=f'{sys.argv[1]}/old/digits.onnx')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
    weights = folder / "other" / "weights" / "last.keras"
    (folder / "old" / "last.keras").write_bytes(weights.read_bytes())
    (folder / "target").mkdir()


if __name__ == "__main__":
    main()
