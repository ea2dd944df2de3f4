"""A small run's life on a disk that is full at the n-th write; started by test_full_disk.py.

    LD_PRELOAD=full_disk.so FULL_DISK_BELOW=FOLDER python disk_life.py FOLDER OUT EVERY AFTER

Each command is first carried out with room on the disk, which counts its writes; then from the same
state once for every EVERY-th of them, which fails, and with it all that follow if AFTER is 1. What
came of each is written to OUT as JSON.
"""

import contextlib
import csv
import ctypes
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", "tensorflow")
FOLDER, OUT, EVERY, AFTER = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
KINDS = ("open", "write", "flush", "rename", "make a folder", "make longer")
PHOTOS, LIFE, KEPT = FOLDER / "photos", FOLDER / "life", FOLDER / "kept"
os.environ["CONVSCOPE_CACHE"] = str(LIFE / "cache")

import numpy as np  # noqa: E402
import yaml  # noqa: E402
from PIL import Image  # noqa: E402

import convscope  # noqa: E402
from convscope.errors import ConvscopeError  # noqa: E402
from convscope.progress import Progress  # noqa: E402

disk = ctypes.CDLL(os.environ["LD_PRELOAD"])
disk.full_disk_count.restype = disk.full_disk_count_of.restype = ctypes.c_long
RUN, QUIET = LIFE / "run", Progress()


def train() -> None:
    convscope.train(
        "cnn-functional",
        data=PHOTOS,
        epochs=1,
        precision="float32",
        settings={"least_steps": 1},
        out=RUN,
        resume=True,
        progress=QUIET,
    )


COMMANDS: dict[str, Callable[[], object]] = {
    "train": train,
    "evaluate": lambda: convscope.evaluate(RUN, fresh=True, progress=QUIET),
    "predict": lambda: list(convscope.predict(RUN, [PHOTOS / "cat"], progress=QUIET)),
    "explain": lambda: convscope.explain(RUN, [PHOTOS / "cat" / "0.png"], progress=QUIET),
    "report": lambda: convscope.report(RUN, progress=QUIET),
}


def attempt(command: str, n: int) -> str:
    """Carry a command out with the n-th write failing; return the error's line, or nothing."""
    disk.full_disk_arm(ctypes.c_long(n), ctypes.c_int(int(AFTER)))
    try:
        COMMANDS[command]()
    except ConvscopeError as error:
        return str(error) if error.exit_code == 1 else f"exit code {error.exit_code}: {error}"
    except BaseException as error:
        return f"unexpected {type(error).__name__}: {error}"
    finally:
        disk.full_disk_disarm()
    return ""


def faults() -> list[str]:
    """Return what is wrong with the files: halves under a final name, remains of temporary ones."""
    found = []
    for path in sorted(LIFE.rglob("*")):
        if ".part" in path.name:
            found.append(f"{path.relative_to(LIFE)} is left behind")
        elif path.is_file():
            try:
                read(path)
            except Exception as error:
                found.append(f"{path.relative_to(LIFE)}: {type(error).__name__} {error}")
    return found


def read(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        text = path.read_text()
        assert text.endswith("\n"), "ends within a line"
        for line in text.splitlines():
            json.loads(line)
    elif path.suffix == ".yaml":
        assert len(yaml.safe_load(path.read_text())) > 10
    elif path.suffix == ".csv":
        text = path.read_text()
        rows = list(csv.reader(text.splitlines()))
        assert text.endswith("\n")
        assert {len(row) for row in rows} == {len(rows[0])}
    elif path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
    elif path.suffix in (".keras", ".npz"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    elif path.suffix == ".npy":
        np.load(path)
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(path).num_rows > 0
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".md":
        assert path.read_text().endswith("\n")


def restore(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)
    else:
        target.mkdir()


rng = np.random.default_rng(0)
for name in ("cat", "dog"):
    (PHOTOS / name).mkdir(parents=True)
    for index in range(8):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(PHOTOS / name / f"{index}.png")
LIFE.mkdir()
# What is written at the first use of a library only (fonts, kernels) is no matter of a command's.
for command in COMMANDS:
    assert not attempt(command, 0)
restore(FOLDER / "nothing", LIFE)

result: dict[str, object] = {"writes": {}, "kinds": dict.fromkeys(KINDS, 0), "tries": []}
for command in COMMANDS:
    restore(LIFE, KEPT)
    assert not attempt(command, 0), command
    n_writes = disk.full_disk_count()
    result["writes"][command] = n_writes
    for number, kind in enumerate(KINDS):
        result["kinds"][kind] += disk.full_disk_count_of(number)
    assert not faults(), faults()
    restore(LIFE, FOLDER / "after")
    first = 1 + (len(command) % EVERY if EVERY > 1 else 0)
    for n in range(first, n_writes + 1, EVERY):
        restore(KEPT, LIFE)
        said = attempt(command, n)
        wrong = faults()
        again = attempt(command, 0)
        wrong += [f"afterwards: {fault}" for fault in faults()]
        result["tries"].append(
            {"command": command, "n": n, "said": said, "faults": wrong, "again": again}
        )
        with contextlib.suppress(OSError):
            OUT.write_text(json.dumps(result, indent=1))
    restore(FOLDER / "after", LIFE)
OUT.write_text(json.dumps(result, indent=1))
