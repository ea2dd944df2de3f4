"""The classifier of a run: the only file of this folder that uses Keras and runs."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convscope import backend as backends
from convscope.classifier.classify import Classifier
from convscope.classifier.familiarity import Familiarity
from convscope.classifier.rejection import LARGEST_DISTANCE
from convscope.classifier.shares import Shares
from convscope.classifier.spec import TEMPERATURES, ClassifierSpec, Views
from convscope.errors import RunError, UnknownNameError
from convscope.images.decode import DECODER_VERSION
from convscope.models.saving import load_portable
from convscope.models.structure import model_of
from convscope.recipe import read_run_config
from convscope.run import WEIGHTS, Run
from convscope.storage import read_object
from convscope.types import InputSpec
from convscope.wording import command_line, first_line

if TYPE_CHECKING:
    import keras


def open_classifier(run: Run, weights: str | None = None, *, reject: bool = False) -> Classifier:
    """Return the classifier that a run trained, on the current backend.

    All predictions of a run's model come from here, so that they agree.

    Args:
        run: Trained run.
        weights: One of `run.WEIGHTS`; None takes the recipe's choice.
        reject: Whether it will be asked to reject images.

    Raises:
        RunError: If there is no such saved model, or a file of the run is damaged.
        UnknownNameError: If `weights` is another name.
    """
    which = which_weights(run, weights)
    backends.configure_for_use(read_run_config(run.config_file).backend)
    model = load_model(run.weights(which))
    known = familiarity_of(run, which) if reject else None
    both = None if known is None else _with_features(model)
    remedy = f"first: {_evaluation_of(run, which)}"
    return Classifier(model, spec_of(run, which), known, both, remedy=remedy)


def unevaluated_note(run: Run, weights: str | None = None) -> str:
    """Return a line if weights were not evaluated, so that nothing was fitted to them; else "".

    Args:
        run: Trained run.
        weights: As for `open_classifier`.
    """
    which = which_weights(run, weights)
    digest = run.weights_sha256(which)
    if _evaluated_spec(run, which, digest) or _temperature_of_old(run, digest):
        return ""
    return (
        f"Note: the weights '{which}' were not evaluated, so their probabilities are not "
        f"calibrated and nothing can be rejected; first: {_evaluation_of(run, which)}"
    )


def _evaluation_of(run: Run, which: str) -> str:
    """Return the command that evaluates weights; test images that are sealed stay so."""
    words = [] if which == which_weights(run, None) else ["--weights", which]
    words += [] if run.test_openings else ["--no-test"]
    return command_line("evaluate", run.path, *words)


def _with_features(model: "keras.Model") -> "keras.Model":
    """Return a classifier on a backbone that gives the features of its head too, before."""
    from convscope.models.transfer import POOL

    return model_of(model.inputs, [model.get_layer(POOL).output, model.outputs[0]])


def familiarity_of(run: Run, which: str) -> Familiarity | None:
    """Return what is known about the features of the training images, if it fits the weights.

    Nothing is known from so few images that, measured by their variance, all others are out of
    reach: then the energy of the answers decides.

    Raises:
        RunError: If the file is damaged.
    """
    file = run.familiarity_file(which)
    if not file.exists():
        return None
    try:
        found = Familiarity.read(file)
    except ValueError as error:
        again = command_line("evaluate", run.path, "--fresh")
        raise RunError(f"{file} is damaged ({error}); write it again: {again}") from None
    fits = found.weights_sha256 == run.weights_sha256(which)
    return found if fits and found.farthest <= LARGEST_DISTANCE else None


def which_weights(run: Run, weights: str | None) -> str:
    """Return one of `run.WEIGHTS`: as requested, or as the run's recipe evaluates."""
    config = read_run_config(run.config_file)
    which = weights or ("refit" if config.refit else config.judge)
    if which not in WEIGHTS:
        raise UnknownNameError("weights", which, WEIGHTS)
    return which


def weights_for(run: Run, which: str, part: str) -> str:
    """Return the weights that stand for others on a part: never weights that learnt from it.

    Args:
        run: Trained run.
        which: One of `run.WEIGHTS`.
        part: "val" or "test".
    """
    if (which, part) == ("refit", "val"):
        return read_run_config(run.config_file).judge
    return which


def load_model(path: Path) -> "keras.Model":
    """Load a saved model for inference.

    Args:
        path: File of the model.

    Raises:
        RunError: If the file is missing or damaged.
    """
    if not path.is_file():
        raise RunError(
            f"there is no saved model {path}; train first, or continue an interrupted run with "
            f"{command_line('train', '--resume', path.parent.parent)}"
        )
    try:
        return load_portable(path)
    except Exception as error:  # Keras raises any exception of its parts on a damaged file.
        raise RunError(f"the saved model {path} is damaged: {first_line(error)}") from error


def spec_of(run: Run, which: str) -> ClassifierSpec:
    """Return the spec of a run's weights, one of `run.WEIGHTS`.

    Values that were fitted to other weights do not count: after further training, until the next
    evaluation, the temperature is 1 and there is no threshold.

    Raises:
        RunError: If that model was not saved, or a file of the run is damaged.
    """
    digest = run.weights_sha256(which)
    try:
        if (spec := _evaluated_spec(run, which, digest)) is not None:
            # In a run the names are those in its own file, checked when it is read.
            return dataclasses.replace(spec, class_names=tuple(run.class_names))
        return _new_spec(run, which, _temperature_of_old(run, digest) or 1.0)
    except ValueError as error:
        raise RunError(f"{run.path} is damaged: {error}") from None


def _evaluated_spec(run: Run, which: str, digest: str) -> ClassifierSpec | None:
    """Return the spec that an evaluation of these very weights left; None if there was none."""
    file = run.classifier_file(which)
    spec = ClassifierSpec.read(file) if file.exists() else None
    return spec if spec is not None and spec.weights_sha256 == digest else None


def write_spec(
    run: Run,
    which: str,
    *,
    temperature: float,
    reject_below: float = 0.0,
    val_shares: Shares | None = None,
    thresholds: Sequence[float] | None = None,
) -> ClassifierSpec:
    """Write the spec of evaluated weights next to them, and return it.

    Args:
        run: Evaluated run.
        which: One of `run.WEIGHTS`.
        temperature: Divisor of the logits.
        reject_below: Least energy of an answer.
        val_shares: Shares of the answers on validation images, if known.
        thresholds: Threshold of each class, where an image may have any number of classes.

    Raises:
        RunError: If that model was not saved, or a file of the run is damaged.
        StorageError: If the file cannot be written.
    """
    spec = _new_spec(run, which, temperature)
    shares = val_shares or Shares()
    spec = dataclasses.replace(spec, reject_below=reject_below, val_shares=shares)
    if thresholds is not None:
        spec = dataclasses.replace(spec, thresholds=tuple(thresholds))
    spec.write(run.classifier_file(which))
    return spec


def _new_spec(run: Run, which: str, temperature: float) -> ClassifierSpec:
    config, state = read_run_config(run.config_file), run.state
    seen = InputSpec(**state["input"])
    # Files become what the run's images were, and the model does the rest, as in training.
    height, width, channels = state.get("image_shape", seen.shape)
    return ClassifierSpec(
        tuple(run.class_names),
        height,
        width,
        channels,
        fit=config.fit,
        white=state.get("white"),
        decoder_version=_decoder_of(run, which),
        scaling=seen.scaling,
        temperature=temperature,
        views=Views(**config.tta.model_dump()),
        multi_label=config.multi_label,
        # Until they are chosen, by an evaluation.
        thresholds=(0.5,) * len(run.class_names) if config.multi_label else (),
        run_id=run.name,
        licence=state.get("provenance", {}).get("licence"),
        weights_sha256=run.weights_sha256(which),
    )


def _decoder_of(run: Run, which: str) -> int:
    """Return the version of the decoder of the run's files; the present one if none is known."""
    if known := run.state.get("decoder_version"):
        return int(known)
    with contextlib.suppress(RunError):  # older runs have it beside their weights
        if (file := run.classifier_file(which)).exists():
            return ClassifierSpec.read(file).decoder_version
    return DECODER_VERSION


def _temperature_of_old(run: Run, digest: str) -> float | None:
    """Return the temperature of a run that was evaluated before specs existed; otherwise None."""
    file = run.calibration_file
    if not file.exists():
        return None
    try:
        content = read_object(file)
        temperature, fitted_to = float(content["temperature"]), content["weights_sha256"]
        if not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
            raise ValueError
    except (ValueError, TypeError, KeyError):
        raise RunError(
            f"{file} is damaged; write it again: {command_line('evaluate', run.path, '--fresh')}"
        ) from None
    return temperature if fitted_to == digest else None
