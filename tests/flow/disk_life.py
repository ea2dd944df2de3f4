"""A small run's life on a disk that is full at the n-th write; started by test_full_disk.py.

    LD_PRELOAD=full_disk.so FULL_DISK_BELOW=FOLDER/life python disk_life.py FOLDER OUT EVERY AFTER

Each command is first carried out with room on the disk, which counts its writes; then from the same
state once for every EVERY-th of them, which fails, and with it all that follow if AFTER is 1. What
came of each is written to OUT as JSON.
"""

import csv
import ctypes
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

import convscope
from convscope.errors import ConvscopeError
from convscope.progress import Progress

KINDS = ("open", "write", "flush", "rename", "make a folder", "make longer")


class Life:
    """A run below a folder, and the commands of its life."""

    def __init__(self, folder: Path, *, and_after: bool) -> None:
        self.folder, self.place, self.and_after = folder, folder / "life", and_after
        self.photos, self.run = folder / "photos", folder / "life" / "run"
        self.disk = ctypes.CDLL(os.environ["LD_PRELOAD"])
        for name in ("full_disk_count", "full_disk_count_of"):
            getattr(self.disk, name).restype = ctypes.c_long
        self.commands: dict[str, Callable[[], object]] = {
            "train": self.train,
            "evaluate": lambda: convscope.evaluate(self.run, fresh=True, progress=Progress()),
            "predict": lambda: list(
                convscope.predict(self.run, [self.photos / "cat"], progress=Progress())
            ),
            "explain": lambda: convscope.explain(
                self.run, [self.photos / "cat" / "0.png"], progress=Progress()
            ),
            "report": lambda: convscope.report(self.run, progress=Progress()),
        }

    def train(self) -> None:
        convscope.train(
            "cnn-functional",
            data=self.photos,
            epochs=1,
            precision="float32",
            settings={"least_steps": 1},
            out=self.run,
            resume=True,
            progress=Progress(),
        )

    def attempt(self, command: str, n: int) -> str:
        """Carry a command out with the n-th write failing; return the error's line, or nothing."""
        self.disk.full_disk_arm(ctypes.c_long(n), ctypes.c_int(self.and_after))
        try:
            self.commands[command]()
        except ConvscopeError as error:
            return str(error) if error.exit_code == 1 else f"exit code {error.exit_code}: {error}"
        except BaseException as error:
            return f"unexpected {type(error).__name__}: {error}"
        finally:
            self.disk.full_disk_disarm()
        return ""

    def faults(self) -> list[str]:
        """Return what is wrong with the files: halves under a final name, temporary remains."""
        found = []
        for path in sorted(self.place.rglob("*")):
            if ".part" in path.name:
                found.append(f"{path.relative_to(self.place)} is left behind")
            elif path.is_file():
                try:
                    read(path)
                except Exception as error:
                    found.append(f"{path.relative_to(self.place)}: {type(error).__name__} {error}")
        return found

    def counts(self) -> dict[str, int]:
        counts = map(self.disk.full_disk_count_of, range(len(KINDS)))
        return dict(zip(KINDS, counts, strict=True))


def read(path: Path) -> None:
    """Read a file to its end; fail if it is not whole."""
    text = path.read_text() if path.suffix in (".jsonl", ".csv", ".html", ".md") else ""
    assert path.suffix == ".html" or text.endswith("\n") or not text, "ends within a line"
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        assert all(json.loads(line) for line in text.splitlines())
    elif path.suffix == ".yaml":
        assert len(yaml.safe_load(path.read_text())) > 10
    elif path.suffix == ".csv":
        rows = list(csv.reader(text.splitlines()))
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
        assert text.rstrip().endswith("</html>")


def restore(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)
    else:
        target.mkdir()


def write_photos(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(8):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def main(folder: Path, out: Path, every: int, *, and_after: bool) -> None:
    os.environ["CONVSCOPE_CACHE"] = str(folder / "life" / "cache")
    life = Life(folder, and_after=and_after)
    write_photos(life.photos)
    life.place.mkdir()
    # What is written at the first use of a library only (fonts, kernels) is no matter of ours.
    for command in life.commands:
        assert not life.attempt(command, 0)
    restore(folder / "nothing", life.place)
    result: dict[str, dict] = {"writes": {}, "kinds": {}, "tries": []}
    for command in life.commands:
        restore(life.place, folder / "before")
        assert not life.attempt(command, 0), command
        result["kinds"][command] = life.counts()
        result["writes"][command] = n_writes = sum(life.counts().values())
        assert not life.faults(), life.faults()
        restore(life.place, folder / "after")
        for n in range(1 + len(command) % every, n_writes + 1, every):
            restore(folder / "before", life.place)
            said = life.attempt(command, n)
            wrong = life.faults()
            again = life.attempt(command, 0)
            wrong += [f"afterwards: {fault}" for fault in life.faults()]
            told = {"command": command, "n": n, "said": said, "faults": wrong, "again": again}
            result["tries"].append(told)
        restore(folder / "after", life.place)
        out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), and_after=sys.argv[4] == "1")
