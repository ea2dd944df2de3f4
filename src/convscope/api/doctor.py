"""Diagnosis of a run, or of settings before they cost a run."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from convscope import backend as backends
from convscope.diagnosis import Diagnosis, Unknown, diagnose
from convscope.diagnosis.case import Case
from convscope.errors import ConfigError, RunError
from convscope.models import is_backbone
from convscope.paths import is_address, user_path
from convscope.planning.data import load_of_run
from convscope.planning.networks import build_model, chance_kept, input_spec
from convscope.planning.plan import run_config
from convscope.planning.settle import Request, settle_batches, settle_labels, settle_names
from convscope.progress import Progress, console_progress
from convscope.recipe import RANDOM_WEIGHTS, read_config
from convscope.run import Run
from convscope.types import Dataset

if TYPE_CHECKING:
    import keras

    from convscope.training.range_test import RangeTest


def doctor(
    what: Run | Path | str,
    *,
    try_rates: bool = False,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Look for traps in a run, or in settings that would lead into them.

    Nothing is trained unless `try_rates` is set, and the test images stay sealed: only a run's
    predictions on them are used, and they are compared with the other parts as images.

    Args:
        what: Run or its folder, finished or interrupted; or YAML file of settings.
        try_rates: Whether to train for some 120 steps with rising learning rates, to see which of
            them train; for networks that are trained from scratch.
        data: Current place of the run's folder of images, if it moved.
        labels: Current place of the table of their labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with all events; None draws on standard error.

    Raises:
        RunError: If there is neither such a run nor such a file.
        ConfigError: If the file holds no settings, or the range test is requested for a backbone.
    """
    progress = progress or console_progress()
    if (
        not isinstance(what, Run)
        and not is_address(what)
        and (file := user_path(what, "RUN | CONFIG")).is_file()
    ):
        # Precision does not matter here, and is not measured for it.
        request = Request({"precision": "float32"}, read_config(file))
        config = settle_names(request, Progress())
        run, path = None, str(file)
    else:
        run = Run.open(what)
        config, path = run_config(run), str(run.config_file)
    backends.configure_for_use(config.backend)

    def network_of(run: Run) -> "keras.Model":
        from convscope.classifier.keras_model import load_model, which_weights

        try:
            return load_model(run.weights(which_weights(run, None)))
        except RunError as error:
            raise Unknown(str(error)) from None

    def pretrained() -> "keras.Model":
        from convscope.models.backbones import BACKBONES
        from convscope.models.weights import find_weights, load_weights

        if config.weights == RANDOM_WEIGHTS:
            raise Unknown("its backbone was not pretrained")
        backbone = BACKBONES.get(config.model)
        assert run is not None
        shape = run.state["input"]
        trunk = backbone.build((shape["height"], shape["width"], 3))
        load_weights(trunk, backbone, find_weights(backbone, config.weights, progress))
        return trunk

    @functools.cache
    def load() -> Dataset:
        split_file = None if run is None else run.split_file
        return load_of_run(config, split_file, data, labels, data_dir, progress)

    if run is None:
        config = settle_labels(request, config, load())
        config = settle_batches(request, config, len(load().train), progress)

    def rates() -> "RangeTest":
        from convscope.training.range_test import range_test
        from convscope.training.start import start_weights

        dataset = load()
        n_classes = len(dataset.class_names)
        network = build_model(config, input_spec(dataset, config), n_classes)
        start_weights(network, config.start, dataset.train)
        return range_test(network, config, dataset.train, n_classes, progress)

    if try_rates and is_backbone(config.model):
        raise ConfigError(
            "the range test is for networks that are trained from scratch; "
            f"{config.model} is pretrained"
        )
    wanted = chance_kept()(rates) if try_rates else None
    case = Case(config, path, run, load, network_of, pretrained, wanted, data, labels)
    return diagnose(case)
