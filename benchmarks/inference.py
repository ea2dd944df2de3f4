"""Inference: how fast the tutorial's network, trained or not, says what is on images.

    python benchmarks/inference.py --runs 5 --rounds 8 --out inference.json

Same network, 10,000 CIFAR-10 images (those for validation) in memory, 500 at a time. Lanes:

    tutorial      Keras 3 as the tutorial calls it: float32 arrays in [0, 1], model.predict
    tutorial-2    the same again: what differs between these two is noise
    convscope     the saved model, loaded, from raw pixels, as `convscope evaluate` does
    torch         plain PyTorch, channels_last, inference mode, from raw pixels, float32
    torch-bf16    the same under autocast to bfloat16

How the lanes are run and what the ratios mean: see `_rounds.py`.
"""

import functools
import os
import tempfile
from pathlib import Path

from _lanes import torch_cnn, tutorial_cnn
from _rounds import Turn, compare

from convscope.types import UInt8Array

BATCH = 500


def main() -> None:
    lanes = {
        "tutorial": tutorial,
        "tutorial-2": tutorial,
        "convscope": convscope_lane,
        "torch": functools.partial(torch_lane, precision="float32"),
        "torch-bf16": functools.partial(torch_lane, precision="bfloat16"),
    }
    compare(__doc__ or "", lanes, rounds=8, runs=5, work="pass over 10,000 images")


def images() -> UInt8Array:
    import convscope
    from convscope.progress import Progress

    val = convscope.load("cifar10", progress=Progress()).val
    assert val is not None
    return val.images[:]


def tutorial(turn: Turn, times: int) -> None:
    # Not by way of convscope, which asks TensorFlow for determinism.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras  # noqa: F401

    turn.imported()
    pixels = images().astype("float32") / 255.0
    model = tutorial_cnn()
    turn.wait()
    for _ in range(times):
        model.predict(pixels, batch_size=BATCH)
        turn.wait()


def convscope_lane(turn: Turn, times: int) -> None:
    import convscope
    from convscope import backend

    backend.configure()  # before anything imports Keras
    from convscope.classifier.keras_model import load_model
    from convscope.evaluation.predictions import predict_images
    from convscope.models.saving import PortableModel
    from convscope.planning.networks import build_model, input_spec
    from convscope.progress import ConsoleProgress
    from convscope.recipe import resolve
    from convscope.recipes import RECIPES

    turn.imported()
    pixels = images()
    config = resolve(RECIPES.get("tutorial")())
    spec = input_spec(convscope.load("cifar10"), config)
    weights = build_model(config, spec, 10).get_weights()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        PortableModel.of(config.model, spec, 10).save(weights, path)
        model = load_model(path)
    turn.wait()
    for _ in range(times):
        progress = ConsoleProgress()
        predict_images(model, pixels, batch_size=BATCH, progress=progress, label="Predicting")
        turn.wait()


def torch_lane(turn: Turn, times: int, precision: str) -> None:
    import torch

    turn.imported()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Strides stay channels_last.
    pixels = torch.from_numpy(images().copy()).permute(0, 3, 1, 2).to(device)
    model = torch_cnn().to(device).eval()
    coarse = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    turn.wait()
    for _ in range(times):
        with torch.inference_mode(), coarse:
            for some in pixels.split(BATCH):
                scaled = (some.float() / 255).contiguous(memory_format=torch.channels_last)
                model(scaled).float().softmax(1).cpu().numpy()
        turn.wait()


if __name__ == "__main__":
    main()
