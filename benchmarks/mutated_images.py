"""Damage image files by chance and see that each gives pixels or one line, and nothing else.

    python benchmarks/mutated_images.py photos more-photos --seed 0 --count 2000

Each mutant is a file of the folders in which bits were flipped, bytes overwritten, cut off, doubled
or left out, or which begins like a file of another kind. It goes through the decoder, through
`convscope data check` and through the decoding of `convscope predict`. A violation is a crash, an
exception that is no ImageError, a message that is not one line with the file's name, a warning or
other output, more than --seconds or --memory for one mutant, and an image that one of the three
reads and another does not. The table counts outcomes by the format that the file had; the exit code
is 1 if there is a violation. Mutants that violate are kept in --keep.

The same seed and the same files make the same mutants. They are worked on in a process of their
own, so that a crash is counted and the rest goes on.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec
from convscope.datasets.checks.check import check_folder
from convscope.errors import ConvscopeError, ImageError
from convscope.images.decode import decode_image
from convscope.images.find import is_image
from convscope.images.formats import read_header
from convscope.progress import Progress
from convscope.types import ImagePrediction

MAX_SEED_BYTES = 300_000
"""Larger files are no seeds: most of their bytes are pixels, and each takes seconds."""

BATCH = 50
"""Mutants that are checked together, as one folder of two classes."""


class Flat:
    """A network that says the same of every image: what is tried is the decoding."""

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Return (n_images, 2) probabilities."""
        return np.full((len(images), 2), 0.5, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="where files to damage are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000, help="how many mutants")
    parser.add_argument("--seconds", type=float, default=20, help="most time for one mutant")
    parser.add_argument("--memory", type=int, default=2500, help="most memory in all, in MB")
    parser.add_argument("--keep", type=Path, help="where mutants that violate go")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seeds = read_seeds(options.folders)
    if options.worker is not None:
        work(seeds, options)
        return
    if not seeds:
        parser.error(f"no image of at most {MAX_SEED_BYTES:,} bytes there")
    outcomes: list[dict] = []
    while len(outcomes) < options.count:
        outcomes += run_worker(len(outcomes))
    report(outcomes)
    violations = [outcome for outcome in outcomes if outcome["violation"]]
    for outcome in violations:
        print(f"mutant {outcome['number']} of {outcome['seed']}: {outcome['violation']}")
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            content = mutant(seeds, options.seed, outcome["number"])[1]
            (options.keep / f"{outcome['number']}-{outcome['seed']}").write_bytes(content)
    sys.exit(bool(violations))


def read_seeds(folders: list[Path]) -> list[tuple[str, str, bytes]]:
    """Return name, format and content of the files that are images, sorted by path."""
    seeds = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if is_image(path.name) and path.is_file() and path.stat().st_size <= MAX_SEED_BYTES:
                try:
                    seeds.append((path.name, read_header(path).format, path.read_bytes()))
                except ImageError:
                    continue
    return seeds


def mutant(seeds: list[tuple[str, str, bytes]], seed: int, number: int) -> tuple[str, bytes, str]:
    """Return the name of the seed file, its damaged content, and its format.

    Formats take turns, so that each has its share however many files there are of it.
    """
    chance = np.random.default_rng([seed, number])
    formats = sorted({file_format for _, file_format, _ in seeds})
    wanted = formats[number % len(formats)]
    mine = [entry for entry in seeds if entry[1] == wanted]
    name, file_format, content = mine[chance.integers(len(mine))]
    other = seeds[chance.integers(len(seeds))][2]
    damaged = bytearray(content)
    # Damage to the header is the more interesting: half of all places are in the first 400 bytes.
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        size = len(damaged)
        place = int(chance.integers(min(size, 400) if chance.random() < 0.5 else size))
        length = int(chance.choice([1, 2, 4, 16, 300]))
        match chance.integers(7):
            case 0:
                damaged[place] ^= 1 << chance.integers(8)
            case 1:
                values = chance.choice([b"\0", b"\xff", b"\x7f", b"\x80"])
                damaged[place : place + length] = bytes(values) * len(
                    damaged[place : place + length]
                )
            case 2:
                damaged[place : place + length] = chance.bytes(len(damaged[place : place + length]))
            case 3:
                del damaged[max(place, 1) :]
            case 4:
                damaged[place:place] = damaged[place : place + length]
            case 5:
                del damaged[place : place + length]
            case 6:
                damaged[:length] = other[:length]
        if not damaged:
            damaged = bytearray(b"\0")
    return name, bytes(damaged), file_format


def run_worker(start: int) -> list[dict]:
    """Return the outcomes from one mutant on, to the end or to one that ended the process."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as noise:
        command = [sys.executable, "-W", "error", __file__, *sys.argv[1:], "--worker", str(start)]
        done = subprocess.run(command, stdout=said, stderr=noise, check=False)
        said.seek(0)
        noise.seek(0)
        outcomes, begun = [], None
        for line in said:
            entry = json.loads(line)
            if "violation" in entry:
                outcomes.append(entry)
            else:
                begun = entry
        rest = noise.read()
    if done.returncode:
        if begun is None:
            sys.exit(f"the worker did not start: {rest}")
        last = rest.strip().split("\n")[-1]
        why = f"the process ended with code {done.returncode}: {last}"
        outcomes.append({**begun, "outcome": "crash", "violation": why})
    return outcomes


def work(seeds: list[tuple[str, str, bytes]], options: argparse.Namespace) -> None:
    """Try mutants from number `worker` on, and print a line of JSON before and after each."""
    for start in range(options.worker, options.count, BATCH):
        numbers = range(start, min(start + BATCH, options.count))
        with tempfile.TemporaryDirectory() as place:
            batch = []
            for number in numbers:
                name, content, file_format = mutant(seeds, options.seed, number)
                # Two classes, so that it is a folder that could be trained on.
                path = Path(place, "ab"[number % 2], f"{number:06}{Path(name).suffix}")
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
                batch.append((path, {"number": number, "seed": name, "format": file_format}))
            for entry in try_batch(Path(place), batch, options):
                print(json.dumps(entry), flush=True)


def try_batch(place: Path, batch: list, options: argparse.Namespace) -> Iterator[dict]:
    classifier = Classifier(Flat(), ClassifierSpec(("a", "b"), 32, 32, 3))
    alone: dict[Path, str] = {}
    entries: dict[Path, dict] = {}
    for path, about in batch:
        yield about
        started, output = time.monotonic(), listen()
        outcome, violation = "pixels", ""
        try:
            read_header(path)
            decode_image(path, channels=3)
        except ImageError as error:
            outcome = str(error)
            violation = faults_of_line(outcome, str(path))
        alone[path] = outcome
        (said,) = classifier.predict_files([path], batch_size=1, progress=Progress())
        if isinstance(said, ImagePrediction) != (outcome == "pixels"):
            violation = violation or f"decoded: {outcome}; predicted: {said}"
        seconds, memory = time.monotonic() - started, peak_mb()
        if seconds > options.seconds:
            violation = f"took {seconds:.0f} seconds"
        if memory > options.memory:
            violation = f"{memory:.0f} MB of memory"
        violation = violation or heard(output)
        kind = outcome.removeprefix(f"{path} ")
        entries[path] = {**about, "outcome": kind, "violation": violation, "seconds": seconds}
        entries[path]["memory_mb"] = memory
    output = listen()
    try:
        report = check_folder(place, progress=Progress())
        broken = {
            name: line
            for finding in report.findings
            for name, line in zip(finding.files, finding.details, strict=False)
        }
    except ConvscopeError as error:
        broken = {}
        entries[batch[0][0]]["violation"] = f"check: {error}"
    noise = heard(output)
    for path, entry in entries.items():
        name = path.relative_to(place).as_posix()
        refused = broken.get(name, "")
        violation = faults_of_line(refused, name) if refused else ""
        # Deep images on another scale than the others of the folder are refused there only.
        if (alone[path] == "pixels") != (not refused) and "white is" not in refused:
            violation = f"decoded: {alone[path]}; checked: {refused or 'pixels'}"
        yield {**entry, "violation": entry["violation"] or violation or noise}


def faults_of_line(line: str, name: str) -> str:
    """Return what is wrong with a message; "" if nothing is."""
    if not line.startswith(f"{name} "):
        return f"the line does not begin with the name: {line}"
    if "\n" in line or not line.isprintable() or len(line) - len(name) > 250:
        return f"not one short line: {line!r}"
    return ""


def listen() -> int:
    """Return where standard error is now: what comes after it was not wanted."""
    return os.lseek(2, 0, os.SEEK_END)


def heard(before: int) -> str:
    after = os.lseek(2, 0, os.SEEK_END)
    return f"said on standard error: {os.pread(2, 200, before)!r}" if after > before else ""


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(outcomes: list[dict]) -> None:
    """Print how many mutants of each format ended in which way."""
    kinds = Counter((entry["format"], kind_of(entry)) for entry in outcomes)
    columns = [
        *("pixels", "not an image", "truncated", "too large", "damaged", "other line"),
        "violation",
    ]
    print(f"{'format':8}" + "".join(f"{column:>14}" for column in columns) + f"{'all':>8}")
    for file_format in [*sorted({entry["format"] for entry in outcomes}), "all"]:
        counts = [
            sum(
                count
                for (which, kind), count in kinds.items()
                if kind == column and file_format in (which, "all")
            )
            for column in columns
        ]
        print(f"{file_format:8}" + "".join(f"{count:14,}" for count in counts), end="")
        print(f"{sum(counts):8,}")
    slowest = max(outcomes, key=lambda entry: entry.get("seconds", 0))
    print(
        f"slowest {slowest.get('seconds', 0):.1f} s ({slowest['seed']}), "
        f"peak of memory {max(entry.get('memory_mb', 0) for entry in outcomes):.0f} MB"
    )


def kind_of(entry: dict) -> str:
    if entry["violation"]:
        return "violation"
    beginnings = {
        "pixels": "pixels",
        "is not a whole image": "not an image",
        "is truncated": "truncated",
        "is too large": "too large",
        "is damaged": "damaged",
    }
    for beginning, kind in beginnings.items():
        if entry["outcome"].startswith(beginning):
            return kind
    return "other line"


if __name__ == "__main__":
    main()
