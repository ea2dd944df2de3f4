"""Measure the cache of decoded images: how fast it is made, how fast and in what memory it is read.

    python benchmarks/pack.py --out pack.json

Three questions, answered on generated photographs (no network is needed):

    packing     How many images a second are read, decoded and packed? "small" are JPEGs of 32 x 32
                pixels, kept at that size; "photos" are JPEGs of 240 to 600 pixels a side, squashed
                to 224 x 224. Each round starts with an empty cache; the files themselves are warm
                in the system's. "again" is the time to open the same folder a second time,
                "relabelled" that after one label was corrected (an image comes at another place),
                "ten_more" that after ten images were added. On a busy machine look at the images
                for each CPU second (of all threads).
    reading     How long is an epoch of shuffled batches of 128 from the pack, mapped from disk,
                against the same images in memory? The two take turns of a third of a second, and
                the ratio is taken within the turn; 1.00 means that mapping costs nothing. On a busy
                machine look at the ratio of CPU seconds.
    memory      A set twice as large as the memory limit is packed and read for an epoch by a
                process that lives under that limit. How much memory of its own does it need? As a
                control, a second process under the same limit loads the set into memory, and must
                fail. Two more write the set as four shards at an address, and read an epoch in the
                order of training, with room for two shards on the disk. The limit is a control
                group (version 2 or 1) if one can be made, else
                RLIMIT_DATA, which counts a process's own memory but not the system's cache of its
                files.

Folders hold each photograph under several names (hard links), to spare the disk; every name is
packed. All of it lies in a temporary folder on a real disk, which is removed at the end.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from _lanes import anonymous_mib

BATCH_SIZE = 128
MIB = 2**20
PHOTO_SIZE = 224
TURN_S = 0.3
TASKS = {
    "pack": "pack and read",
    "load": "control, load into memory",
    "write": "write four shards",
    "read": "read them in the order of training",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", type=int, default=20_000, help="how many small images")
    parser.add_argument("--photos", type=int, default=1_000, help="how many photos to pack")
    parser.add_argument("--rounds", type=int, default=5, help="of packing and of reading")
    parser.add_argument("--limit-mib", type=int, default=256, help="the memory limit")
    parser.add_argument("--dir", type=Path, help="where to work, on a real disk; needs 1 GiB")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    parser.add_argument("--child", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]), options.limit_mib)
        return

    with tempfile.TemporaryDirectory(prefix="convscope-pack-", dir=options.dir) as name:
        work = Path(name)
        os.environ["CONVSCOPE_CACHE"] = str(work / "cache")
        small = make_folder(work, "small", options.small, n_distinct=2_000, sides=(32, 32))
        photos = make_folder(work, "photos", options.photos, n_distinct=400, sides=(240, 600))
        added = make_folder(work, "added", 10, n_distinct=10, sides=(240, 600), seed=1)
        results: dict[str, Any] = {
            "packing": {
                "small": packing(small, added, 32, options.rounds),
                "photos": packing(photos, added, PHOTO_SIZE, options.rounds),
            },
            "reading": {
                "small": reading(small, 32, options.rounds),
                "photos": reading(photos, PHOTO_SIZE, options.rounds),
            },
        }
        shutil.rmtree(work / "cache")
        n_large = 2 * options.limit_mib * MIB // (PHOTO_SIZE**2 * 3) + 1
        large = make_folder(work, "large", n_large, n_distinct=400, sides=(240, 600))
        results["memory"] = memory(large, options.limit_mib)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def make_folder(
    work: Path,
    name: str,
    n_images: int,
    *,
    n_distinct: int,
    sides: tuple[int, int],
    seed: int = 0,
) -> Path:
    """Fill a folder with JPEGs of soft shapes and film grain, of sides within the range."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    root = work / name
    root.mkdir()
    for number in range(n_images):
        path = root / f"{number:06d}.jpg"
        if number >= n_distinct:
            os.link(root / f"{number % n_distinct:06d}.jpg", path)
            continue
        height, width = rng.integers(sides[0], sides[1] + 1, 2)
        shapes = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        pixels = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
        pixels = pixels + rng.normal(0, 8, (height, width, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=88)
    return root


def pack_folder(
    root: Path, side: int, names: Sequence[str] | None = None
) -> tuple[Any, float, float]:
    """Return the pack of a folder, and the seconds of looking at the files and of packing."""
    from convscope.datasets.folders.pack import pack_images
    from convscope.datasets.folders.scan import scan_files
    from convscope.progress import Progress

    began = time.perf_counter()
    names = names or sorted(entry.name for entry in os.scandir(root))
    files = scan_files(root, names, progress=Progress())
    looked = time.perf_counter()
    pack = pack_images(root, files, size=(side, side), channels=3, progress=Progress())
    return pack, looked - began, time.perf_counter() - looked


def packing(root: Path, added: Path, side: int, rounds: int) -> dict[str, Any]:
    n_images = len(list(root.iterdir()))
    # The index trusts a file when two seconds have passed since it was written.
    time.sleep(2.1)
    rates: dict[str, list[float]] = {"all": [], "all_per_cpu": [], "packing_only": []}
    later: dict[str, list[float]] = {"again": [], "relabelled": [], "ten_more": []}
    for _ in range(rounds):
        shutil.rmtree(os.environ["CONVSCOPE_CACHE"], ignore_errors=True)
        cpu_s = time.process_time()
        _, look_s, pack_s = pack_folder(root, side)
        rates["all_per_cpu"].append(n_images / (time.process_time() - cpu_s))
        rates["all"].append(n_images / (look_s + pack_s))
        rates["packing_only"].append(n_images / pack_s)
        first, *others = sorted(entry.name for entry in os.scandir(root))
        later["again"].append(sum(pack_folder(root, side)[1:]))
        later["relabelled"].append(sum(pack_folder(root, side, [*others, first])[1:]))
        links = [root / f"added-{image.name}" for image in added.iterdir()]
        for link in links:
            os.link(added / link.name.removeprefix("added-"), link)
        later["ten_more"].append(sum(pack_folder(root, side)[1:]))
        for link in links:
            link.unlink()
    print(
        f"packing {root.name}: {n_images:,} images to {side} x {side}, "
        f"{said(rates['all'], ',.0f')} images/s, of which the first look at the files is a part; "
        f"{said(rates['packing_only'], ',.0f')} without it; {said(rates['all_per_cpu'], ',.0f')} "
        f"per CPU second; "
        + ", ".join(f"{name}: {said(values, '.2f')} s" for name, values in later.items())
    )
    return {
        "n_images": n_images,
        **{f"images_per_s_{name}": spread(values) for name, values in rates.items()},
        **{f"{name}_s": spread(values) for name, values in later.items()},
    }


def reading(root: Path, side: int, rounds: int) -> dict[str, Any]:
    import numpy as np

    mapped = pack_folder(root, side)[0].images
    in_memory = np.array(mapped)
    epoch(mapped, seed=0)  # so that the pack is in the system's cache, as after a first epoch
    once_s, _ = epoch(in_memory, seed=0)
    n_epochs = max(1, round(TURN_S / once_s))
    wall: dict[str, list[float]] = {"mapped": [], "in_memory": []}
    cpu: dict[str, list[float]] = {"mapped": [], "in_memory": []}
    for turn in range(4 * rounds):
        # Taking turns at being first, too.
        lanes = [("mapped", mapped), ("in_memory", in_memory)][:: 1 if turn % 2 else -1]
        for name, images in lanes:
            times = [epoch(images, seed=number) for number in range(n_epochs)]
            wall[name].append(sum(wall_s for wall_s, _ in times) / n_epochs)
            cpu[name].append(sum(cpu_s for _, cpu_s in times) / n_epochs)
    ratios = {
        kind: [one / other for one, other in zip(*seconds.values(), strict=True)]
        for kind, seconds in (("cpu", cpu), ("wall", wall))
    }
    print(
        f"reading {root.name}: {in_memory.nbytes / MIB:,.0f} MiB in batches of {BATCH_SIZE}, "
        f"mapped {said(wall['mapped'], '.4f')} s, in memory {said(wall['in_memory'], '.4f')} s; "
        f"ratio {said(ratios['wall'], '.2f')}, by CPU seconds {said(ratios['cpu'], '.2f')}"
    )
    return {
        "n_bytes": in_memory.nbytes,
        "batch_size": BATCH_SIZE,
        **{f"{name}_s": spread(values) for name, values in wall.items()},
        **{f"{kind}_ratio": spread(values) for kind, values in ratios.items()},
    }


def epoch(images: Any, seed: int) -> tuple[float, float]:
    """Take every image once, in shuffled batches, and return the wall and the CPU seconds."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(images))
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(order), BATCH_SIZE):
        images[order[start : start + BATCH_SIZE]]
    return time.perf_counter() - wall, time.process_time() - cpu


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def said(values: list[float], form: str) -> str:
    middle, low, high = (format(value, form) for value in spread(values).values())
    return f"{middle} ({low} to {high})"


# Memory


def memory(root: Path, limit_mib: int) -> dict[str, Any]:
    limit = find_limit()
    n_bytes = len(list(root.iterdir())) * PHOTO_SIZE**2 * 3
    result: dict[str, Any] = {"limit": limit, "limit_mib": limit_mib, "set_mib": n_bytes / MIB}
    print(f"memory: {n_bytes / MIB:,.0f} MiB of images under {limit_mib} MiB, by {limit}")
    for task, words in TASKS.items():
        with control_group(limit, limit_mib) as group:
            command = [sys.executable, __file__, "--child", task, str(root)]
            command += ["--limit-mib", str(limit_mib)]
            environment = {**os.environ, "CONVSCOPE_BENCHMARK_GROUP": str(group or "")}
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
        told = [json.loads(line) for line in done.stdout.splitlines()]
        # The child prints where it is after each step, so that a killed one has told something.
        result[task] = {"exit_code": done.returncode, **(told[-1] if told else {})}
        ending = "finished" if done.returncode == 0 else f"failed ({reason(done)})"
        print(f"  {words}: {ending}")
        for step in told:
            print(
                f"    {step['step']}: {step['seconds']:.1f} s, own memory at most "
                f"{step['peak_anonymous_mib']:.0f} MiB (before: {step['before_mib']:.0f} MiB)"
            )
    return result


def reason(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["no message"])[-1]


def find_limit() -> str:
    """Return the best way to limit memory here: a control group, or RLIMIT_DATA."""
    for kind, home in (("cgroup v2", Path("/sys/fs/cgroup")), ("cgroup v1", V1_HOME)):
        probe = home / f"convscope-probe-{os.getpid()}"
        with contextlib.suppress(OSError):
            probe.mkdir()
            usable = (probe / V2_FILE).exists() or (probe / V1_FILE).exists()
            probe.rmdir()
            if usable:
                return kind
    return "RLIMIT_DATA"


V1_HOME = Path("/sys/fs/cgroup/memory")
V1_FILE = "memory.limit_in_bytes"
V2_FILE = "memory.max"


@contextlib.contextmanager
def control_group(limit: str, limit_mib: int) -> Iterator[Path | None]:
    if limit == "RLIMIT_DATA":
        yield None
        return
    home, file = (Path("/sys/fs/cgroup"), V2_FILE) if limit == "cgroup v2" else (V1_HOME, V1_FILE)
    group = home / f"convscope-{os.getpid()}"
    group.mkdir()
    try:
        (group / file).write_text(str(limit_mib * MIB))
        with contextlib.suppress(OSError):  # no swap to flee to, where that can be said
            (group / "memory.swap.max").write_text("0")
        yield group
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def child(task: str, root: Path, limit_mib: int) -> None:
    """Work under the limit, and print a line of JSON after each step."""
    group = os.environ["CONVSCOPE_BENCHMARK_GROUP"]
    if group:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_mib * MIB, limit_mib * MIB))
    import numpy as np

    # Imported before the clock starts, so that "before" is the program itself.
    pack_folder_of_one()
    if task in ("write", "read"):
        shards(task, root)
        return
    step = "packing" if task == "pack" else "opening the pack"
    pack = measured(step, lambda: pack_folder(root, PHOTO_SIZE)[0])
    if task == "load":
        images = measured("loading into memory", lambda: np.array(pack.images))
    else:
        images = pack.images
    measured("an epoch", lambda: epoch(images, seed=0))


def shards(task: str, root: Path) -> None:
    """Write a folder as four shards at an address, or read an epoch with room for two of them."""
    import convscope
    from convscope.progress import Progress
    from convscope.recipe import RunConfig
    from convscope.training.batches import order_of

    n_bytes = len(list(root.iterdir())) * PHOTO_SIZE**2 * 3
    shard_mb = n_bytes / 4 / 1e6 + 0.2
    address = f"file://{root.parent / 'bucket'}"
    labels = root.parent / "labels.csv"
    names = sorted(file.name for file in root.iterdir())
    rows = (f"{name},{'ab'[number % 2]}" for number, name in enumerate(names))
    labels.write_text("\n".join(["file,label", *rows]))
    settings = {"labels": labels, "image_size": PHOTO_SIZE, "progress": Progress()}

    def write() -> None:
        convscope.write_shards(root, address, shard_mb=shard_mb, near=1, **settings)

    def read() -> None:
        train = convscope.load(address, progress=Progress()).train
        order = order_of(RunConfig(), train.labels, 0, images=train.images)
        for start in range(0, len(order), BATCH_SIZE):
            train.images[order[start : start + BATCH_SIZE]]

    os.environ["CONVSCOPE_SHARDS_GB"] = str(2.1 * shard_mb / 1000)
    if task == "write":
        measured("writing four shards", write)
    else:
        measured("an epoch", read)


def pack_folder_of_one() -> None:
    """Bring in everything that packing needs."""
    from PIL import Image

    from convscope.images.decode import decode_image

    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    decode_image(stream, channels=3)


def measured(step: str, work: Callable[[], Any]) -> Any:
    before = peak = anonymous_mib()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        result = work()
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        told = {
            "step": step,
            "seconds": seconds,
            "before_mib": before,
            "peak_anonymous_mib": max(peak, anonymous_mib()),
        }
        print(json.dumps(told), flush=True)
    return result


if __name__ == "__main__":
    main()
