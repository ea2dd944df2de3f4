"""Compare the time of an epoch: the tutorial's own Keras code against convscope's training path.

    python benchmarks/overhead.py --rounds 8 --out overhead.json

Same network, same 40,000 + 10,000 CIFAR-10 images in memory, batch 128, Adam. An epoch is training
and validation and, for convscope, everything else that it does after an epoch (best weights,
snapshot, table). Lanes:

    tutorial      Keras 3 as the tutorial calls it: float32 arrays in [0, 1], model.fit
    tutorial-2    the same again: what differs between these two is noise
    convscope     the training path in float32
    convscope-bf16  the training path in bfloat16, what `--precision auto` takes on a CPU with units
                  for it; `auto` says what that is here

Each lane is a process of its own that trains one epoch when told to and waits otherwise, so only
one works at a time. In each round every lane trains one epoch, in random order; a ratio is taken
within the round, so a machine whose speed drifts does not decide it. The first epoch, which
compiles, is not counted. A round in which other processes (or other guests of the same host) took
more than 5 % of the processors during any lane's epoch is void for all lanes. Prints the median of
the ratios with a 95 % bootstrap interval.
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

DISTURBED = 0.05
PATIENCE = 4
"""Rounds tried for each one that is to count."""

LANES = ("tutorial", "tutorial-2", "convscope", "convscope-bf16")


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
    most = PATIENCE * options.rounds + 1
    for name in options.lanes:
        ours, theirs = context.Pipe()
        process = context.Process(target=lane, args=(name, theirs, most), daemon=True)
        process.start()
        lanes[name], pids[name] = ours, process.pid or 0
        ours.recv()  # loaded; nothing runs until it is told to
    print("epoch seconds, the first not counted")
    print("round  " + "".join(f"{name:>16}" for name in lanes))
    order, chance = list(lanes), random.Random(options.seed)
    seconds: dict[str, list[float]] = {name: [] for name in lanes}
    for number in range(most):
        chance.shuffle(order)
        took, disturbed = {}, 0.0
        for name in order:
            before, start = cpu_seconds(pids[name]), time.perf_counter()
            lanes[name].send("epoch")
            lanes[name].recv()
            took[name] = time.perf_counter() - start
            all_of_it, its_own = (
                b - a for a, b in zip(before, cpu_seconds(pids[name]), strict=True)
            )
            others = (all_of_it - its_own) / (took[name] * (os.cpu_count() or 1))
            disturbed = max(disturbed, others)
        void = disturbed > DISTURBED
        label = "first" if number == 0 else "void" if void else str(len(seconds[order[0]]) + 1)
        times = "".join(f"{took[name]:16.2f}" for name in lanes)
        print(f"{label:<7}{times}   others took {disturbed:.0%}", flush=True)
        if number and not void:
            for name, value in took.items():
                seconds[name].append(value)
        if len(seconds[order[0]]) == options.rounds:
            break
    else:
        raise SystemExit("the machine is too busy to measure anything; try again later")
    memory = {}
    for name, pipe in lanes.items():
        pipe.send("memory")
        memory[name] = pipe.recv()

    base = options.lanes[0]
    results = {}
    print(f"\n{'lane':<16}{'s/epoch':>9}{'peak MB':>9}   times as fast as {base} (95 % interval)")
    for name in lanes:
        ratios = [b / a for a, b in zip(seconds[name], seconds[base], strict=True)]
        low, high = bootstrap(ratios)
        results[name] = {
            "epoch_seconds": seconds[name],
            "median_seconds": statistics.median(seconds[name]),
            "peak_memory_mb": memory[name],
            "speed_ratio": statistics.median(ratios),
            "interval_95": [low, high],
        }
        print(
            f"{name:<16}{statistics.median(seconds[name]):9.2f}{memory[name]:9.0f}   "
            f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
        )
    if options.out:
        options.out.write_text(json.dumps({"base": base, "lanes": results}, indent=2) + "\n")


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


def bootstrap(ratios: list[float], n: int = 10_000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(n))
    return medians[int(0.025 * n)], medians[int(0.975 * n)]


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

    if name.startswith("tutorial"):
        tutorial(wait, epochs)
    else:
        convscope_lane(wait, epochs, "bfloat16" if name.endswith("bf16") else "float32")


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
    from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D

    train, val = dataset.train, dataset.val
    assert val is not None
    x_train = train.images.astype("float32") / 255.0
    x_val = val.images.astype("float32") / 255.0
    keras.utils.set_random_seed(83)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            Conv2D(32, (3, 3), padding="same", activation="relu"),
            MaxPooling2D(2, 2),
            Conv2D(64, (3, 3), padding="same", activation="relu"),
            MaxPooling2D(2, 2),
            Conv2D(64, (3, 3), padding="same", activation="relu"),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    wait()
    model.fit(
        x_train,
        train.labels,
        batch_size=128,
        validation_data=(x_val, val.labels),
        epochs=epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: wait())],
    )


def convscope_lane(wait: Callable[[], None], epochs: int, precision: str) -> None:
    from convscope import api, backend
    from convscope.models.saving import PortableModel
    from convscope.progress import ConsoleProgress, Progress
    from convscope.recipe import resolve
    from convscope.recipes import RECIPES
    from convscope.run import Run
    from convscope.training.fit import fit

    backend.configure()
    dataset = api.load("cifar10", progress=Progress())
    assert dataset.val is not None
    config = resolve(RECIPES.get("tutorial")(), {"precision": precision, "epochs": epochs})
    spec = api.input_spec(dataset, config)
    model = api.build_model(config, spec, 10)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", "run")
        wait()
        fit(
            model,
            dataset.train,
            dataset.val,
            config,
            run,
            save_weights=PortableModel(config.model, spec, 10).save,
            log_row=lambda row: wait(),
            progress=ConsoleProgress(),
        )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
