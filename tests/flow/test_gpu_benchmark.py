"""The benchmark for a GPU learns what `convscope train` learns, though it trains by other code."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# A process of its own, since tests may run on another backend. 862 images in two batches.
SCRIPT = """
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, sys.argv[1])
from gpu import Trainer, settled

import convscope
from convscope.classifier.keras_model import load_model
from convscope.progress import Progress

folder = Path(sys.argv[2])
settings = {
    "model": "fast-small",
    "data": "digits",
    "epochs": 2,
    "batch_size": 431,
    "precision": "float32",
}
own = {"split.val_fraction": 0.4, "least_steps": 1}
run = convscope.train(
    recipe="fast",
    seed=84,
    out=folder / "run",
    test=False,
    settings=own,
    progress=Progress(),
    **settings,
)
dataset = convscope.load("digits", split={"val_fraction": 0.4}, progress=Progress())
trainer = Trainer(settled({**settings, **own}), dataset)
learnt, _ = trainer.run(84)
kept = load_model(run.weights("last"))
for name, ours, theirs in (
    ("trainable", learnt[0], kept.trainable_variables),
    ("fixed", learnt[1], kept.non_trainable_variables),
):
    assert len(ours) == len(theirs)
    np.savez(folder / f"{name}-benchmark.npz", *map(np.asarray, ours))
    np.savez(folder / f"{name}-run.npz", *(np.asarray(each) for each in theirs))
print(trainer.accuracy(learnt, dataset.val), run.metrics["val"]["accuracy"])
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_it_ends_at_the_weights_of_a_run(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(BENCHMARKS), str(tmp_path)]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("trainable", "fixed"):
        ours, theirs = (np.load(tmp_path / f"{name}-{which}.npz") for which in ("benchmark", "run"))
        for key in theirs:
            np.testing.assert_allclose(ours[key], theirs[key], atol=1e-3, rtol=1e-3)
    # They learnt something, and both judge it alike.
    accuracies = [float(each) for each in done.stdout.split()[-2:]]
    assert accuracies[0] == accuracies[1] > 0.5
