import os
import sys
from typing import ClassVar

import pytest

from convscope.errors import ConfigError, MissingExtraError, UnknownNameError
from convscope.progress import Progress
from convscope.recipe import Recipe, resolve
from convscope.run import Run
from convscope.training.results import COLUMNS
from convscope.training.tracking import TRACKERS, Tracker, send_scores, tracking

ROWS = [
    {key: float(epoch if key == "epoch" else epoch + place) for place, key in enumerate(COLUMNS)}
    | {"phase": "head"}
    for epoch in (1, 2, 3)
]
CURVES = set(COLUMNS) - {"epoch", "phase"}


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "some run", "run")


@pytest.fixture
def config():
    return resolve(Recipe(), {"epochs": 3, "optimizer.learning_rate": 0.0125})


def read_events(run) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each curve, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(run.tensorboard_dir)).Reload()
    return {
        tag: [
            (point.step, float(make_ndarray(point.tensor_proto))) for point in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def stopped_after(row, name, config, run, error):
    with tracking([name], config, run, Progress()) as log_row:
        log_row(row)
        raise error


def test_without_trackers_nothing_happens(run, config):
    with tracking((), config, run, Progress()) as log_row:
        log_row(ROWS[0])
    assert list(run.path.iterdir()) == []


def test_tensorboard_shows_a_point_per_epoch_and_curve(run, config):
    pytest.importorskip("tensorboard")
    with tracking(["tensorboard"], config, run, Progress()) as log_row:
        for row in ROWS:
            log_row(row)
    curves = read_events(run)
    assert set(curves) == CURVES
    for key, points in curves.items():
        assert points == [(int(row["epoch"]), row[key]) for row in ROWS]


def test_tensorboard_keeps_what_came_before_a_failure_and_goes_on(run, config):
    pytest.importorskip("tensorboard")
    with pytest.raises(KeyboardInterrupt):
        stopped_after(ROWS[0], "tensorboard", config, run, KeyboardInterrupt)
    assert len(read_events(run)["loss"]) == 1
    with tracking(["tensorboard"], config, run, Progress()) as log_row:
        log_row(ROWS[1])
    assert [step for step, _ in read_events(run)["val_loss"]] == [1, 2]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An MLflow whose server is a folder of this test."""
    mlflow = pytest.importorskip("mlflow")
    # A database needs packages that mlflow-skinny does not bring.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def test_mlflow_gets_settings_and_curves(run, config, store):
    with tracking(["mlflow"], config, run, Progress()) as log_row:
        for row in ROWS:
            log_row(row)
    assert store.active_run() is None
    client = store.MlflowClient()
    experiment = client.get_experiment_by_name("convscope")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "some run"
    assert found.info.status == "FINISHED"
    assert found.data.params["epochs"] == "3"
    assert "0.0125" in str(found.data.params)
    assert set(found.data.metrics) == CURVES
    for key in CURVES:
        points = client.get_metric_history(found.info.run_id, key)
        assert [(point.step, point.value) for point in points] == [
            (int(row["epoch"]), row[key]) for row in ROWS
        ]


def test_an_mlflow_that_cannot_be_used_is_one_clear_line(run, config, store):
    store.set_tracking_uri("gopher://nowhere")
    with (
        pytest.raises(ConfigError, match=r"gopher://nowhere.*set MLFLOW_TRACKING_URI") as caught,
        tracking(["mlflow"], config, run, Progress()),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_failed_run_is_no_finished_one_in_mlflow(run, config, store):
    with pytest.raises(ValueError):
        stopped_after(ROWS[0], "mlflow", config, run, ValueError)
    assert store.active_run() is None
    (found,) = store.MlflowClient().search_runs(
        [store.get_experiment_by_name("convscope").experiment_id]
    )
    assert found.info.status == "FAILED"
    assert found.data.metrics["loss"] == ROWS[0]["loss"]


def test_a_resumed_run_goes_on_in_its_mlflow_run(run, config, store):
    with pytest.raises(KeyboardInterrupt):
        stopped_after(ROWS[0], "mlflow", config, run, KeyboardInterrupt)
    longer = config.model_copy(update={"epochs": 5})
    with tracking(["mlflow"], longer, run, Progress()) as log_row:
        log_row(ROWS[1])
    client = store.MlflowClient()
    experiment = client.get_experiment_by_name("convscope").experiment_id
    (found,) = client.search_runs([experiment])
    assert found.info.status == "FINISHED"
    points = client.get_metric_history(found.info.run_id, "loss")
    assert [point.step for point in points] == [1, 2]
    # One that the server does not have any more is begun anew.
    client.delete_run(found.info.run_id)
    with tracking(["mlflow"], longer, run, Progress()) as log_row:
        log_row(ROWS[2])
    (new,) = client.search_runs([experiment])
    assert new.info.run_id != found.info.run_id


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("tensorbord", "did you mean 'tensorboard'"),
        ("ml-flow", "did you mean 'mlflow'"),
        ("wandb", "choose one of: mlflow, tensorboard"),
    ],
)
def test_an_unknown_tracker_suggests_the_nearest(run, config, name, advice):
    with (
        pytest.raises(UnknownNameError, match=f"unknown tracker '{name}'; {advice}"),
        tracking([name], config, run, Progress()),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("tensorboard", "tensorboard.summary", "tensorboard"), ("mlflow", "mlflow", "mlflow")],
)
def test_a_missing_package_names_the_extra(run, config, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(MissingExtraError, match=rf"pip install 'convscope\[{extra}\]'"),
        tracking([name], config, run, Progress()),
    ):
        pass


@pytest.mark.parametrize(("own", "kept"), [(None, "true"), ("false", "false")])
def test_mlflow_is_imported_without_its_telemetry(run, config, monkeypatch, own, kept):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", own or "")
    if own is None:
        monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError), tracking(["mlflow"], config, run, Progress()):
        pass
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == kept


class Recorder(Tracker):
    made: ClassVar[list["Recorder"]] = []

    def __init__(self, config, run):
        self.rows, self.closed = [], 0
        self.made.append(self)

    def log(self, row):
        self.rows.append(row)

    def close(self, *, failed):
        self.closed += 1
        self.failed = failed


class Refusing(Recorder):
    def __init__(self, config, run):
        raise MissingExtraError("mlflow-skinny", "mlflow")


class Stuck(Recorder):
    def close(self, *, failed):
        super().close(failed=failed)
        raise RuntimeError("stuck")


class Away(Recorder):
    """One whose server does not answer once, in the second epoch."""

    answers = True

    def log(self, row):
        if row["epoch"] == 2 and self.answers:
            self.answers = False
            raise ConnectionError("no answer\nfrom there")
        super().log(row)


class Gone(Recorder):
    """One whose server does not answer any more."""

    def log(self, row):
        raise ConnectionError("no answer")


class Told(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def trackers(monkeypatch):
    monkeypatch.setattr(Recorder, "made", [])
    for name, kind in (("one", Recorder), ("two", Recorder), ("refusing", Refusing)):
        monkeypatch.setitem(TRACKERS, name, kind)
    monkeypatch.setitem(TRACKERS, "stuck", Stuck)
    monkeypatch.setitem(TRACKERS, "away", Away)
    monkeypatch.setitem(TRACKERS, "gone", Gone)
    return Recorder.made


def test_the_final_scores_are_sent_once_the_run_is_evaluated(run, config, trackers):
    of_val = {"accuracy": 0.75, "loss": 0.5, "macro_f1": 0.7}
    run.write_json(run.metrics_file, {"val": of_val, "test": {"accuracy": 0.5}})
    told = Told()
    run.record(last_after=2)  # of three epochs, as it was stopped early
    send_scores(["gone", "one"], config, run, told)
    gone, one = trackers
    assert one.rows == [
        {
            "epoch": 2,
            "final_val_accuracy": 0.75,
            "final_val_loss": 0.5,
            "final_test_accuracy": 0.5,
        }
    ]
    assert (gone.closed, one.closed, one.failed) == (1, 1, False)
    assert told.lines == ["gone did not take the final scores (no answer); metrics.json has them"]


def test_the_final_scores_begin_no_second_mlflow_run(run, config, store):
    run.write_json(run.metrics_file, {"val": {"accuracy": 0.75}})
    with tracking(["mlflow"], config, run, Progress()) as log_row:
        log_row(ROWS[0])
    assert log_row.answering == ["mlflow"]
    told, client = Told(), store.MlflowClient()
    send_scores(["mlflow"], config, run, told)
    experiments = [client.get_experiment_by_name("convscope").experiment_id]
    (found,) = client.search_runs(experiments)
    assert found.data.metrics["final_val_accuracy"] == 0.75
    assert not told.lines
    client.delete_run(found.info.run_id)
    send_scores(["mlflow"], config, run, told)
    assert client.search_runs(experiments) == []
    assert [line.split(" (")[0] for line in told.lines] == ["mlflow did not take the final scores"]


def test_one_that_stays_away_is_closed_too(run, config, trackers):
    told = Told()
    with tracking(["gone"], config, run, told) as log_row:
        log_row({"epoch": 1})
    assert trackers[0].closed == 1
    assert [line.split(" (")[0] for line in told.lines] == [
        "gone did not take epoch 1",
        "gone did not take the end of the run",
    ]


def test_all_get_each_row_and_are_closed_once_however_it_ends(run, config, trackers):
    with tracking(["one", "two"], config, run, Progress()) as log_row:
        log_row(ROWS[0])
        assert [tracker.closed for tracker in trackers] == [0, 0]
    assert [tracker.rows for tracker in trackers] == [[ROWS[0]]] * 2
    assert [tracker.closed for tracker in trackers] == [1, 1]
    assert [tracker.failed for tracker in trackers] == [False, False]
    with pytest.raises(ZeroDivisionError), tracking(["one"], config, run, Progress()):
        raise ZeroDivisionError
    assert (trackers[-1].closed, trackers[-1].failed) == (1, True)


def test_those_started_are_closed_when_another_does_not_start_or_close(run, config, trackers):
    with pytest.raises(MissingExtraError), tracking(["one", "refusing"], config, run, Progress()):
        pass
    assert [tracker.closed for tracker in trackers] == [1]
    told = Told()
    with tracking(["one", "stuck"], config, run, told) as log_row:
        pass
    assert log_row.answering == ["one"]
    assert [tracker.closed for tracker in trackers] == [1, 1, 1]
    assert told.lines == [
        "stuck did not take the end of the run (stuck); results.csv has all epochs, metrics.json "
        "the scores"
    ]
    # An unknown name starts none.
    with pytest.raises(UnknownNameError), tracking(["one", "thre"], config, run, Progress()):
        pass
    assert len(trackers) == 3


def test_a_tracker_that_fails_in_between_does_not_end_the_training(run, config, trackers):
    told = Told()
    with tracking(["away", "one"], config, run, told) as log_row:
        for row in ROWS:
            log_row(row)
        # Nothing is tried again before the end: its client may wait minutes for an answer.
        assert [tracker.rows for tracker in trackers] == [ROWS[:1], ROWS]
    assert told.lines == [
        "away did not take epoch 2 (no answer); the training goes on, and what it lacks is sent "
        "after the last epoch"
    ]
    assert [tracker.rows for tracker in trackers] == [ROWS, ROWS]
    assert [tracker.closed for tracker in trackers] == [1, 1]
