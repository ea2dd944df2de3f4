"""Optional trackers beside `results.csv`: TensorBoard and MLflow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from convscope.errors import ConfigError, MissingExtraError, UnknownNameError
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.wording import first_line


class Tracker:
    """Logs a run to an external tracker."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        raise NotImplementedError

    def log(self, row: dict[str, Any]) -> None:
        """Log the numbers of one finished epoch (a row of `results.csv`)."""
        raise NotImplementedError

    def close(self, *, failed: bool) -> None:
        """Flush; called once, however the run ends.

        Args:
            failed: Whether the run ended with an error or by Ctrl-C.
        """


class TensorBoardTracker(Tracker):
    """Writes event files, without TensorFlow."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        del config
        try:
            from tensorboard.summary import Writer
        except ModuleNotFoundError:
            raise MissingExtraError("tensorboard", "tensorboard") from None
        self._writer = Writer(str(run.tensorboard_dir))

    def log(self, row: dict[str, Any]) -> None:
        """Add a point to each curve."""
        for key, value in _curves(row).items():
            self._writer.add_scalar(key, value, int(row["epoch"]))
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the event file."""
        del failed
        self._writer.close()


class MLflowTracker(Tracker):
    """Logs settings and curves to the MLflow server of $MLFLOW_TRACKING_URI."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        try:
            import mlflow
        except ModuleNotFoundError:
            raise MissingExtraError("mlflow-skinny", "mlflow") from None
        self._mlflow = mlflow
        try:
            mlflow.set_experiment("convscope")
            mlflow.start_run(run_name=run.name)
            mlflow.log_params(config.model_dump())
        except mlflow.exceptions.MlflowException as error:
            raise ConfigError(
                f"MLflow cannot log to {mlflow.get_tracking_uri()}: {first_line(error)}; "
                "set MLFLOW_TRACKING_URI to your MLflow server, such as http://localhost:5000"
            ) from error

    def log(self, row: dict[str, Any]) -> None:
        """Add a point to each curve."""
        self._mlflow.log_metrics(_curves(row), step=int(row["epoch"]))

    def close(self, *, failed: bool) -> None:
        """End the MLflow run."""
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoardTracker, "mlflow": MLflowTracker}


@contextmanager
def tracking(
    names: Sequence[str], config: RunConfig, run: Run
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Start trackers, yield the function that gives each of them a row, and close them at the end.

    Args:
        names: Keys of `TRACKERS`.
        config: Settings of the run.
        run: Run folder.

    Raises:
        UnknownNameError: If there is no such tracker.
        MissingExtraError: If its package is not installed.
        ConfigError: If MLflow cannot be reached.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
    trackers: list[Tracker] = []

    def log_row(row: dict[str, Any]) -> None:
        for tracker in trackers:
            tracker.log(row)

    # Each is closed even if another fails to start or close.
    with ExitStack() as started:
        for name in names:
            trackers.append(TRACKERS[name](config, run))
            started.push(partial(_end, trackers[-1]))
        yield log_row


def _curves(row: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key not in ("epoch", "phase")}


def _end(tracker: Tracker, kind: type[BaseException] | None, *_: object) -> None:
    tracker.close(failed=kind is not None)
