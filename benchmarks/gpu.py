"""Train the fast recipe on a GPU, as an epoch in one compiled call, many times, and time it.

    python benchmarks/gpu.py --model fast-medium --epochs 10 --runs 20 --out gpu.json

JAX only. All images lie on the device as uint8; flips, turns, shifts, squares of Cutout and the
order of an epoch are drawn by the same functions as in `convscope train` and come as a few integers
for each image, applied on the device. An epoch is one compiled call that scans over its batches,
with another for epochs of smaller images. Compiling is timed apart and happens once; each run then
starts from new weights, and its time is all of its epochs, up to the last weight. Whitened patches
are set before, once: they depend on the data only. The last partial batch of an epoch is left away.
Accuracy is of the mean over views of an image, judged once in each run, after its last epoch: on
test images, or with `--on val --val-fraction 0.2`, for choosing settings, on validation images.

Prints each run, then mean and standard deviation. Without a GPU it says so and ends, so that one
command runs all benchmarks anywhere; with `--cpu` it trains all the same, so slowly that a
rehearsal needs fewer images: `--set split.images=2500`.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _lanes import deviation, spelt

from convscope.planning.usual import usual_settings
from convscope.recipe import RunConfig, resolve


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--model", default="fast-medium")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=83, help="of the first run; then one more each")
    parser.add_argument("--val-fraction", type=float, default=0.02, help="of the training images")
    parser.add_argument("--on", default="test", choices=("test", "val"), help="images to judge on")
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--cpu", action="store_true", help="train where there is no GPU, too")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "jax"
    import jax

    if jax.default_backend() == "cpu" and not options.cpu:
        print("JAX finds no GPU (on Linux: pip install 'jax[cuda12]'): nothing is measured")
        return

    import convscope
    from convscope.progress import Progress
    from convscope.recipe import parse_setting

    fixed = {
        "model": options.model,
        "epochs": options.epochs,
        "precision": options.precision,
        "data": options.data,
        "split.val_fraction": options.val_fraction,
    }
    config = settled({**fixed, **dict(parse_setting(text) for text in options.settings)})
    if config.filter.share < 1:
        parser.error("epochs are one compiled call here, all of one length: no filter.share")
    split = config.split.model_dump()
    dataset = convscope.load(config.data, split=split, progress=Progress())
    print(f"device: {jax.devices()[0].device_kind}; {len(dataset.train):,} images")
    trainer = Trainer(config, dataset)
    print(f"compiled in {trainer.compiling:.1f} s", flush=True)

    if options.on == "test":
        assert dataset.test is not None
        judged = dataset.test.open(lambda n: None)
    else:
        assert dataset.val is not None
        judged = dataset.val
    kind = f"{options.on}_accuracy"
    runs = []
    for seed in range(options.seed, options.seed + options.runs):
        weights, seconds = trainer.run(seed)
        accuracy = trainer.accuracy(weights, judged)
        runs.append({"seed": seed, "seconds": seconds, kind: accuracy})
        print(f"seed {seed}  {seconds:8.3f} s  {options.on} accuracy {accuracy:.4f}", flush=True)
    for key in ("seconds", kind):
        values = [run[key] for run in runs]
        mean, median = statistics.mean(values), statistics.median(values)
        print(f"{key}: mean {spelt(mean, deviation(values))}, median {median:.4f}")
    if options.out:
        content = {"device": jax.devices()[0].device_kind, "config": config.model_dump()}
        content |= {"compiling_seconds": trainer.compiling, "runs": runs}
        options.out.write_text(json.dumps(content, indent=2) + "\n")


def settled(given: dict[str, Any]) -> RunConfig:
    """Return the settings of the recipe on the data that are given, as `convscope train` has them.

    Two of them are not followed here: an epoch leaves its last partial batch away instead of
    filling it up, and no batch is made smaller for the sake of more steps.
    """
    return resolve(usual_settings("fast", str(given["model"]), str(given["data"])), given)


class Trainer:
    """The recipe on one device.

    Attributes:
        compiling: Seconds that compiling an epoch took.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        import jax.numpy as jnp

        from convscope.planning.networks import build_model, input_spec
        from convscope.training.optimizers import build_optimizer
        from convscope.training.progressive import n_smaller, smaller_size
        from convscope.training.schedules import build_schedule
        from convscope.training.start import start_weights

        self._config, self._train = config, dataset.train
        self._steps = len(dataset.train) // config.batch_size
        self._n_classes = len(dataset.class_names)
        spec = input_spec(dataset, config)

        def build(seed: int) -> Any:
            return build_model(config.model_copy(update={"seed": seed}), spec, self._n_classes)

        self._build = build
        self._model = build(config.seed)
        start_weights(self._model, config.start, dataset.train)
        self._patches = [each.get_weights() for each in self._model.layers]
        rate = build_schedule(
            config.schedule,
            config.optimizer.learning_rate,
            epochs=config.epochs,
            steps_per_epoch=self._steps,
        )
        self._optimizer = build_optimizer(config.optimizer, rate)
        self._optimizer.build(self._model.trainable_variables)
        self._fresh = [v.value for v in self._optimizer.variables]
        self._data = (
            jnp.asarray(np.asarray(dataset.train.images[:])),
            jnp.asarray(dataset.train.labels),
        )
        self._state(config.seed)
        start = time.perf_counter()
        smaller = smaller_size(config.progressive, self._model)
        self._n_smaller = n_smaller(config.progressive, config.epochs) if smaller else 0
        self._epoch = self._compiled(None)
        self._smaller_epoch = self._compiled(smaller) if self._n_smaller else self._epoch
        self.compiling = time.perf_counter() - start

    def run(self, seed: int) -> tuple[Any, float]:
        """Train from new weights; return what was learnt and the seconds that it took."""
        import jax

        state = jax.block_until_ready(self._state(seed))
        start = time.perf_counter()
        for epoch in range(self._config.epochs):
            compiled = self._smaller_epoch if epoch < self._n_smaller else self._epoch
            state = compiled(state, self._data, *self._draws(seed, epoch))
        jax.block_until_ready(state)
        return state[:2], time.perf_counter() - start

    def accuracy(self, weights: Any, split: Any) -> float:
        """Return the share of images named rightly by the mean over views."""
        import jax

        from convscope.classifier.spec import Views
        from convscope.classifier.views import MeanOverViews

        @jax.jit
        def probabilities(images: Any) -> Any:
            return self._model.stateless_call(*weights, images, training=False)[0]

        views = Views(**self._config.tta.model_dump())
        judge = MeanOverViews(SimpleNamespace(predict_on_batch=probabilities), views)
        right = 0
        for start in range(0, len(split), 2000):
            answers = judge.predict_on_batch(split.images[start : start + 2000]).argmax(axis=1)
            right += int((answers == split.labels[start : start + 2000]).sum())
        return right / len(split)

    def _state(self, seed: int) -> tuple[Any, Any, Any]:
        import jax.numpy as jnp

        from convscope.models.cnn.fast import WHITEN
        from convscope.training.start import start_weights

        model = self._build(seed)
        start_weights(model, self._config.start.model_copy(update={"whiten": False}), self._train)
        for layer, weights in zip(model.layers, self._patches, strict=True):
            if layer.name == WHITEN and self._config.start.whiten:
                layer.set_weights(weights)
                layer.trainable = False
        # Copies: an epoch overwrites what it is given.
        return tuple(
            [jnp.array(getattr(v, "value", v)) for v in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                self._fresh,
            )
        )  # type: ignore[return-value]

    def _draws(self, seed: int, epoch: int) -> tuple[Any, Any]:
        """Return the order of the images and their changes, as `convscope train` draws them."""
        from convscope.training.augment import AugmentedView
        from convscope.training.batches import epoch_order

        view = AugmentedView(self._train.images, self._config.augment, seed, epoch)
        order = epoch_order(len(self._train), seed, epoch)[: self._steps * self._config.batch_size]
        places = order.reshape(self._steps, -1).astype(np.int32)
        return places, view.changes

    def _compiled(self, size: tuple[int, int] | None) -> Any:
        """Return an epoch of images of a size, compiled; None: the network's own."""
        import jax

        from convscope.models.preprocessing import working_at

        def of_size(*arguments: Any) -> Any:  # a new function, or what was traced is used again
            return self._trace_epoch(*arguments)

        state = self._state(self._config.seed)
        with working_at(self._model, size):
            traced = jax.jit(of_size, donate_argnums=0).lower(state, self._data, *self._draws(0, 0))
        return traced.compile()

    def _trace_epoch(self, state: Any, data: Any, order: Any, changes: Any) -> Any:
        import jax
        import jax.numpy as jnp

        from convscope.training.augment import AugmentedView
        from convscope.training.resident import changed_images

        pixels, labels = data
        soft = self._config.label_smoothing
        targets = jnp.eye(self._n_classes) * (1 - soft) + soft / self._n_classes
        extent = AugmentedView(self._train.images[:1], self._config.augment, 0, 0).extent

        def loss(trainable: Any, fixed: Any, images: Any, wanted: Any) -> Any:
            probs, fixed = self._model.stateless_call(trainable, fixed, images, training=True)
            return -(wanted * jnp.log(probs + 1e-12)).sum(axis=1).mean(), fixed

        def step(state: Any, places: Any) -> Any:
            trainable, fixed, moments = state
            images = changed_images(pixels, places, changes.of(places), extent)
            wanted = targets[labels[places]]
            gradients, fixed = jax.grad(loss, has_aux=True)(trainable, fixed, images, wanted)
            trainable, moments = self._optimizer.stateless_apply(moments, gradients, trainable)
            return (trainable, fixed, moments), None

        return jax.lax.scan(step, state, order)[0]


if __name__ == "__main__":
    main()
