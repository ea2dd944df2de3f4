"""Equal work: an epoch of the tutorial's own Keras code, of plain PyTorch, and of convscope.

    python benchmarks/overhead.py --rounds 8 --out overhead.json

Same network, same 40,000 + 10,000 CIFAR-10 images in memory, batch 128, Adam. An epoch is training
and validation and, for convscope, everything else that it does after an epoch (best weights,
snapshot, table). Lanes:

    tutorial      Keras 3 as the tutorial calls it: float32 arrays in [0, 1], model.fit
    tutorial-2    the same again: what differs between these two is noise
    convscope     the training path in float32
    convscope-bf16  the training path in bfloat16, what `--precision auto` takes on a CPU with units
                  for it; `auto` says what that is here
    torch         plain PyTorch, channels_last, uint8 images in memory, float32
    torch-bf16    the same under autocast to bfloat16

Each lane is a process of its own that trains one epoch when told to and waits otherwise, so only
one works at a time. In each round every lane trains one epoch, in random order, and ratios are
taken within the round. The first epoch, which compiles, is not counted.

Two ratios are given, as the median over rounds with a 95 % bootstrap interval. That of CPU seconds
(user and system, all threads) says how much work an epoch is. That of wall seconds is what one
waits, but a virtual machine may get its processors only part of the time: compare it with what
`tutorial-2`, which does the same as `tutorial`, gets. A round in which other processes took more
than 5 % of the processors counts for CPU seconds only.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from _lanes import tutorial_cnn

DISTURBED = 0.05
LANES = ("tutorial", "tutorial-2", "convscope", "convscope-bf16", "torch", "torch-bf16")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8, help="counted epochs of each lane")
    parser.add_argument("--lanes", nargs="+", default=list(LANES), choices=LANES)
    parser.add_argument("--seed", type=int, default=0, help="of the order of the lanes")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    options = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    lanes: dict[str, Connection] = {}
    pids: dict[str, int] = {}
    for name in options.lanes:
        ours, theirs = context.Pipe()
        process = context.Process(target=lane, args=(name, theirs, options.rounds + 1), daemon=True)
        process.start()
        lanes[name], pids[name] = ours, process.pid or 0
        ours.recv()  # loaded; nothing runs until it is told to
    print("seconds of each epoch, wall (CPU)")
    print("round  " + "".join(f"{name:>18}" for name in lanes))
    order, chance = list(lanes), random.Random(options.seed)
    rounds: list[dict[str, tuple[float, float]]] = []
    quiet: list[bool] = []
    for number in range(options.rounds + 1):
        chance.shuffle(order)
        took: dict[str, tuple[float, float]] = {}
        others = 0.0
        for name in order:
            before, start = cpu_seconds(pids[name]), time.perf_counter()
            lanes[name].send("epoch")
            lanes[name].recv()
            wall = time.perf_counter() - start
            busy, own = (b - a for a, b in zip(before, cpu_seconds(pids[name]), strict=True))
            others = max(others, (busy - own) / (wall * (os.cpu_count() or 1)))
            took[name] = (wall, own)
        columns = "".join(f"{took[n][0]:10.2f} {f'({took[n][1]:.2f})':>7}" for n in lanes)
        print(f"{number or 'first'!s:<7}{columns}   others took {others:.0%}", flush=True)
        if number:
            rounds.append(took)
            quiet.append(others <= DISTURBED)
    memory = {}
    for name, pipe in lanes.items():
        pipe.send("memory")
        memory[name] = pipe.recv()

    base = options.lanes[0]
    results = {}
    print(f"\ntimes as fast as {base}: median of {len(rounds)} rounds (95 % interval)")
    print(
        f"{'lane':<16}{'by CPU seconds':>22}{'by wall seconds':>24}{'best epoch':>12}{'peak MB':>9}"
    )
    for name in lanes:
        cpu = [took[base][1] / took[name][1] for took in rounds]
        wall_ratios = [
            took[base][0] / took[name][0] for took, ok in zip(rounds, quiet, strict=True) if ok
        ]
        best = min(took[name][0] for took in rounds)
        results[name] = {
            "wall_seconds": [took[name][0] for took in rounds],
            "cpu_seconds": [took[name][1] for took in rounds],
            "speed_by_cpu": describe(cpu),
            "speed_by_wall": describe(wall_ratios),
            "best_wall_seconds": best,
            "peak_memory_mb": memory[name],
        }
        print(
            f"{name:<16}{spell(describe(cpu)):>22}{spell(describe(wall_ratios)):>24}"
            f"{best:10.2f} s{memory[name]:9.0f}"
        )
    if options.out:
        content = {"base": base, "quiet": quiet, "lanes": results}
        options.out.write_text(json.dumps(content, indent=2) + "\n")


def describe(ratios: list[float]) -> dict[str, float] | None:
    """Return the median of ratios and its 95 % bootstrap interval; None of none."""
    if not ratios:
        return None
    n, chance = 10_000, random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(n))
    return {
        "median": statistics.median(ratios),
        "low": medians[int(0.025 * n)],
        "high": medians[int(0.975 * n)],
    }


def spell(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "machine too busy"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the seconds that all processors were busy or stolen, and those of one process."""
    tick = os.sysconf("SC_CLK_TCK")
    try:
        machine = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        process = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux: no round is void
        return 0.0, 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, machine)
    busy = user + nice + system + irq + softirq + steal
    return busy / tick, (int(process[11]) + int(process[12])) / tick


def lane(name: str, pipe: Connection, epochs: int) -> None:
    # What either prints is thrown away, but it is printed, as it would be for a user.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)

    def wait() -> None:
        """Tell that an epoch is done (or all is loaded), and wait for the next to be asked for."""
        pipe.send("done")
        while pipe.recv() == "memory":
            pipe.send(peak_memory_mb())

    precision = "bfloat16" if name.endswith("bf16") else "float32"
    if name.startswith("tutorial"):
        tutorial(wait, epochs)
    elif name.startswith("torch"):
        torch_lane(wait, epochs, precision)
    else:
        convscope_lane(wait, epochs, precision)


def peak_memory_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tutorial(wait: Callable[[], None], epochs: int) -> None:
    from convscope import api
    from convscope.progress import Progress

    # Not by way of convscope, which asks TensorFlow for determinism.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    dataset = api.load("cifar10", progress=Progress())
    import keras

    train, val = dataset.train, dataset.val
    assert val is not None
    x_train = train.images.astype("float32") / 255.0
    x_val = val.images.astype("float32") / 255.0
    keras.utils.set_random_seed(83)
    model = tutorial_cnn()
    wait()
    model.fit(
        x_train,
        train.labels,
        batch_size=128,
        validation_data=(x_val, val.labels),
        epochs=epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: wait())],
    )


def torch_lane(wait: Callable[[], None], epochs: int, precision: str) -> None:
    import torch
    from torch import nn

    from convscope import api
    from convscope.progress import Progress

    dataset = api.load("cifar10", progress=Progress())
    assert dataset.val is not None
    torch.manual_seed(83)
    parts = [
        (
            torch.from_numpy(part.images.copy()).permute(0, 3, 1, 2),  # strides stay channels_last
            torch.from_numpy(part.labels.astype("int64")),
        )
        for part in (dataset.train, dataset.val)
    ]

    def conv(n_inputs: int, n_outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(n_inputs, n_outputs, 3, padding="same"), nn.ReLU()]

    model = nn.Sequential(
        *(*conv(3, 32), nn.MaxPool2d(2), *conv(32, 64), nn.MaxPool2d(2), *conv(64, 64)),
        *(nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10)),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7)
    loss_of = nn.CrossEntropyLoss()
    coarse = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    wait()
    for _ in range(epochs):
        for (images, labels), size in zip(parts, (128, 512), strict=True):
            learning = images is parts[0][0]
            order = torch.randperm(len(images)) if learning else torch.arange(len(images))
            n_right = 0
            with torch.set_grad_enabled(learning):
                for some in order.split(size):
                    with coarse:
                        pixels = images[some].float() / 255
                        logits = model(pixels.contiguous(memory_format=torch.channels_last))
                        loss = loss_of(logits, labels[some])
                    if learning:
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                    n_right += int((logits.argmax(1) == labels[some]).sum())
        wait()


def convscope_lane(wait: Callable[[], None], epochs: int, precision: str) -> None:
    from convscope import api, backend
    from convscope.models.saving import PortableModel
    from convscope.progress import ConsoleProgress, Progress
    from convscope.recipe import resolve
    from convscope.recipes import RECIPES
    from convscope.run import Run
    from convscope.training.batches import Examples
    from convscope.training.fit import Phase, fit

    backend.configure()
    dataset = api.load("cifar10", progress=Progress())
    assert dataset.val is not None
    config = resolve(RECIPES.get("tutorial")(), {"precision": precision, "epochs": epochs})
    spec = api.input_spec(dataset, config)
    model = api.build_model(config, spec, 10)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", "run")
        wait()
        phase = Phase(
            model,
            Examples.of(dataset.train),
            Examples.of(dataset.val),
            config,
            PortableModel.of(config.model, spec, 10).save,
        )
        fit(phase, run, log_row=lambda row: wait(), progress=ConsoleProgress())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
