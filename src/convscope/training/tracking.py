"""Optional trackers beside `results.csv`: TensorBoard and MLflow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from convscope.errors import MissingExtraError, UnknownNameError
from convscope.recipe import RunConfig
from convscope.run import Run


class Tracker:
    """Follows a run."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        raise NotImplementedError

    def log(self, row: dict[str, Any]) -> None:
        """Take the numbers of one finished epoch (a row of `results.csv`)."""
        raise NotImplementedError

    def close(self) -> None:
        """Flush; called once, however the run ends."""


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
        for key, value in row.items():
            if key != "epoch":
                self._writer.add_scalar(key, float(value), int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class MLflowTracker(Tracker):
    """Logs settings and curves to the MLflow server of $MLFLOW_TRACKING_URI."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        try:
            import mlflow
        except ModuleNotFoundError:
            raise MissingExtraError("mlflow-skinny", "mlflow") from None
        self._mlflow = mlflow
        mlflow.set_experiment("convscope")
        mlflow.start_run(run_name=run.name)
        mlflow.log_params(config.model_dump())

    def log(self, row: dict[str, Any]) -> None:
        """Add a point to each curve."""
        numbers = {key: float(value) for key, value in row.items() if key != "epoch"}
        self._mlflow.log_metrics(numbers, step=int(row["epoch"]))

    def close(self) -> None:
        """End the MLflow run."""
        self._mlflow.end_run()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoardTracker, "mlflow": MLflowTracker}


@contextmanager
def tracking(
    names: Sequence[str], config: RunConfig, run: Run
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Start trackers, yield the function that gives each of them a row, and close them at the end.

    Args:
        names: Keys of `TRACKERS`.
        config: The run's settings.
        run: Its folder.

    Raises:
        UnknownNameError: If there is no such tracker.
        MissingExtraError: If its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
    trackers = [TRACKERS[name](config, run) for name in names]

    def log_row(row: dict[str, Any]) -> None:
        for tracker in trackers:
            tracker.log(row)

    try:
        yield log_row
    finally:
        for tracker in trackers:
            tracker.close()
