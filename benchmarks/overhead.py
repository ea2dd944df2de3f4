"""Equal work: an epoch of the tutorial's own Keras code, of plain PyTorch, and of convscope.

    python benchmarks/overhead.py --runs 5 --rounds 3 --out overhead.json

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
    torch-compiled, torch-bf16-compiled  these two through torch.compile, which needs a C++ compiler

How the lanes are run and what the ratios mean: see `_rounds.py`. An epoch that compiles is not
counted.
"""

import functools
import os
import tempfile
from pathlib import Path

from _lanes import torch_cnn, tutorial_cnn
from _rounds import Turn, compare


def main() -> None:
    lanes = {
        "tutorial": tutorial,
        "tutorial-2": tutorial,
        "convscope": functools.partial(convscope_lane, precision="float32"),
        "convscope-bf16": functools.partial(convscope_lane, precision="bfloat16"),
        "torch": functools.partial(torch_lane, precision="float32"),
        "torch-bf16": functools.partial(torch_lane, precision="bfloat16"),
        "torch-compiled": functools.partial(torch_lane, precision="float32", compiled=True),
        "torch-bf16-compiled": functools.partial(torch_lane, precision="bfloat16", compiled=True),
    }
    compare(__doc__ or "", lanes, rounds=3, runs=5, work="epoch")


def tutorial(turn: Turn, epochs: int) -> None:
    import convscope
    from convscope.progress import Progress

    # Not by way of convscope, which asks TensorFlow for determinism.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    turn.imported()
    dataset = convscope.load("cifar10", progress=Progress())
    train, val = dataset.train, dataset.val
    assert val is not None
    x_train = train.images.astype("float32") / 255.0
    x_val = val.images.astype("float32") / 255.0
    keras.utils.set_random_seed(83)
    model = tutorial_cnn()
    turn.wait()
    model.fit(
        x_train,
        train.labels,
        batch_size=128,
        validation_data=(x_val, val.labels),
        epochs=epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: turn.wait())],
    )


def torch_lane(turn: Turn, epochs: int, precision: str, compiled: bool = False) -> None:
    import torch

    import convscope
    from convscope.progress import Progress

    turn.imported()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = convscope.load("cifar10", progress=Progress())
    assert dataset.val is not None
    torch.manual_seed(83)
    parts = [
        (
            # Strides stay channels_last.
            torch.from_numpy(part.images.copy()).permute(0, 3, 1, 2).to(device),
            torch.from_numpy(part.labels.astype("int64")).to(device),
        )
        for part in (dataset.train, dataset.val)
    ]

    model = torch_cnn().to(device)
    answer = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7)
    loss_of = torch.nn.CrossEntropyLoss()
    coarse = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    turn.wait()
    for _ in range(epochs):
        for (images, labels), size in zip(parts, (128, 512), strict=True):
            learning = images is parts[0][0]
            order = torch.randperm(len(images)) if learning else torch.arange(len(images))
            n_right = 0
            with torch.set_grad_enabled(learning):
                for some in order.split(size):
                    with coarse:
                        pixels = images[some].float() / 255
                        logits = answer(pixels.contiguous(memory_format=torch.channels_last))
                        loss = loss_of(logits, labels[some])
                    if learning:
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                    n_right += int((logits.argmax(1) == labels[some]).sum())
        turn.wait()


def convscope_lane(turn: Turn, epochs: int, precision: str) -> None:
    import convscope
    from convscope import backend

    backend.configure()  # before anything imports Keras
    from convscope.models.saving import PortableModel
    from convscope.planning.networks import build_model, input_spec
    from convscope.progress import ConsoleProgress, Progress
    from convscope.recipe import resolve
    from convscope.recipes import RECIPES
    from convscope.run import Run
    from convscope.training.batches import Examples
    from convscope.training.fit import Phase, fit

    turn.imported()
    dataset = convscope.load("cifar10", progress=Progress())
    assert dataset.val is not None
    config = resolve(RECIPES.get("tutorial")(), {"precision": precision, "epochs": epochs})
    spec = input_spec(dataset, config)
    model = build_model(config, spec, 10)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", "run")
        turn.wait()
        phase = Phase(
            model,
            Examples.of(dataset.train),
            Examples.of(dataset.val),
            config,
            PortableModel.of(config.model, spec, 10).save,
        )
        fit(phase, run, log_row=lambda row: turn.wait(), progress=ConsoleProgress())


if __name__ == "__main__":
    main()
