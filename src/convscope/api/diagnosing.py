"""Finding out what is wrong with a run, or with settings before they cost a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from convscope import backend as backends
from convscope.api.data import load_for
from convscope.api.judging import which_weights
from convscope.api.models import run_config
from convscope.api.training import resolve_new
from convscope.diagnosis import Diagnosis, Unknown, diagnose
from convscope.diagnosis._case import Case
from convscope.errors import RunError
from convscope.progress import Progress, console_progress
from convscope.recipe import RANDOM_WEIGHTS, read_config
from convscope.run import Run

if TYPE_CHECKING:
    import keras


def doctor(
    what: Run | Path | str,
    *,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Look for traps that a run stepped into, or that settings lead into.

    Nothing is trained, and the test images stay sealed: what a run said about them is looked at,
    and they are compared with the others as images.

    Args:
        what: A run or its folder, trained or broken off; or a YAML file of settings.
        data_dir: A further place to look for the files of a registered dataset.
        progress: Told of everything; None draws on standard error.

    Raises:
        RunError: If there is neither such a run nor such a file.
        ConfigError: If the file holds no settings.
    """
    progress = progress or console_progress()
    if isinstance(what, str | Path) and Path(what).is_file():
        # Precision does not matter here, and is not measured for it.
        config = resolve_new(read_config(Path(what)), {"precision": "float32"}, Progress())
        run, path = None, str(what)
    else:
        run = Run.open(what)
        config, path = run_config(run), str(run.config_file)
    backends.configure(config.backend)

    def network_of(run: Run) -> "keras.Model":
        from convscope.evaluation.predictions import load_model

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

    dataset = load_for(config, data_dir, progress)
    case = Case(config, path, run, dataset, network_of, pretrained)
    return diagnose(case)
