"""Optional trackers beside `results.csv`: TensorBoard and MLflow."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from convscope.errors import ConfigError, MissingExtraError, UnknownNameError
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.wording import first_line, masked


class Tracker:
    """Logs a run to an external tracker."""

    def __init__(self, config: RunConfig, run: Run) -> None:
        raise NotImplementedError

    @classmethod
    def reopened(cls, config: RunConfig, run: Run) -> Self:
        """Return a tracker that adds to what was logged of a run, and begins nothing anew."""
        return cls(config, run)

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
    """Logs settings and curves to the MLflow server of $MLFLOW_TRACKING_URI.

    A resumed run goes on in its MLflow run, if that server has it.
    """

    def __init__(self, config: RunConfig, run: Run, *, begins: bool = True) -> None:
        # It would report its use to its makers, and asks once, when it is imported. Who wants that
        # sets it to false.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            import mlflow
        except ModuleNotFoundError:
            raise MissingExtraError("mlflow-skinny", "mlflow") from None
        self._mlflow = mlflow
        try:
            mlflow.set_experiment("convscope")
            if not begins:
                mlflow.start_run(run_id=run.state["mlflow_run"])
            elif not self._goes_on(run):
                begun = mlflow.start_run(run_name=run.name)
                mlflow.log_params(config.model_dump())
                run.record(mlflow_run=begun.info.run_id)
        except mlflow.exceptions.MlflowException as error:
            raise ConfigError(
                f"MLflow cannot log to {masked(mlflow.get_tracking_uri())}: {first_line(error)}; "
                "set MLFLOW_TRACKING_URI to your MLflow server, such as http://localhost:5000"
            ) from error

    @classmethod
    def reopened(cls, config: RunConfig, run: Run) -> Self:
        """Open the MLflow run of a run again; one that is not there is not begun anew."""
        return cls(config, run, begins=False)

    def _goes_on(self, run: Run) -> bool:
        """Start the MLflow run that a run began before; return whether there is one."""
        known = run.state.get("mlflow_run") if run.state_file.exists() else None
        if known is None:
            return False
        try:
            self._mlflow.start_run(run_id=known)
        except self._mlflow.exceptions.MlflowException:  # deleted, or on another server
            return False
        return True

    def log(self, row: dict[str, Any]) -> None:
        """Add a point to each curve."""
        self._mlflow.log_metrics(_curves(row), step=int(row["epoch"]))

    def close(self, *, failed: bool) -> None:
        """End the MLflow run."""
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoardTracker, "mlflow": MLflowTracker}


@contextmanager
def tracking(
    names: Sequence[str], config: RunConfig, run: Run, progress: Progress
) -> Iterator["Tracking"]:
    """Start trackers, yield what gives each of them a row, and close them at the end.

    A tracker that fails after its start does not end the training: it is said once, and what the
    tracker lacks is sent when the training has ended by itself.

    Args:
        names: Keys of `TRACKERS`.
        config: Settings of the run.
        run: Run folder.
        progress: Called where a tracker fails.

    Raises:
        UnknownNameError: If there is no such tracker.
        MissingExtraError: If its package is not installed.
        ConfigError: If MLflow cannot be reached.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
    started: list[_Started] = []
    # Each is closed even if another fails to start.
    with ExitStack() as closing:
        for name in names:
            started.append(_Started(name, TRACKERS[name](config, run), progress))
            closing.push(started[-1].end)
        yield Tracking(started)


class Tracking:
    """Trackers of a run that is trained; a call gives each of them a row."""

    def __init__(self, started: "Sequence[_Started]") -> None:
        self._started = started

    def __call__(self, row: dict[str, Any]) -> None:
        """Give each tracker the numbers of one finished epoch."""
        for tracker in self._started:
            tracker.log(row)

    @property
    def answering(self) -> list[str]:
        """Names of those that took all, once the training has ended."""
        return [tracker.name for tracker in self._started if tracker.took_all]


def send_scores(names: Sequence[str], config: RunConfig, run: Run, progress: Progress) -> None:
    """Send the scores of an evaluated run to trackers, as `final_val_accuracy` and so on.

    Args:
        names: Keys of `TRACKERS`.
        config: Settings of the run.
        run: Run, evaluated.
        progress: Called where a tracker fails; that is not raised.
    """
    metrics = run.metrics
    scores = {
        f"final_{part}_{name}": metrics[part][name]
        for part in ("val", "test")
        for name in ("accuracy", "mean_average_precision", "loss")
        if metrics.get(part, {}).get(name) is not None
    }
    for key in names:
        try:
            tracker = TRACKERS[key].reopened(config, run)
            try:
                tracker.log({"epoch": run.state.get("last_after", config.epochs), **scores})
            finally:
                tracker.close(failed=False)
        except Exception as error:
            progress.say(
                f"{key} did not take the final scores ({first_line(error)}); metrics.json has them"
            )


class _Started:
    """A tracker whose failures are said and not raised.

    Args:
        name: Its name in `TRACKERS`.
        tracker: Tracker.
        progress: Called with what fails.
    """

    def __init__(self, name: str, tracker: Tracker, progress: Progress) -> None:
        self.name = name
        self.took_all = True
        self._tracker = tracker
        self._progress = progress
        self._missed: list[dict[str, Any]] = []

    def log(self, row: dict[str, Any]) -> None:
        # Not tried again in each epoch: a client may wait minutes for a server that is away.
        if self._missed:
            self._missed.append(row)
            return
        try:
            self._tracker.log(row)
        except Exception as error:
            self._missed.append(row)
            self._progress.say(
                f"{self.name} did not take epoch {row['epoch']:.0f} ({first_line(error)}); the "
                "training goes on, and what it lacks is sent after the last epoch"
            )

    def end(self, kind: type[BaseException] | None, *_: object) -> None:
        failed = kind is not None
        try:
            try:
                # After Ctrl-C nobody wants to wait for a server.
                for row in () if failed else self._missed:
                    self._tracker.log(row)
            finally:
                self._tracker.close(failed=failed)
        except Exception as error:
            self.took_all = False
            scores = "" if failed else ", metrics.json the scores"
            self._progress.say(
                f"{self.name} did not take the end of the run ({first_line(error)}); "
                f"results.csv has all epochs{scores}"
            )


def _curves(row: dict[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key not in ("epoch", "phase")}
