"""The search over settings: resumed, stopped early, confirmed, honest."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import convscope
from convscope.errors import ConfigError, RunError, TrainingError
from convscope.progress import Progress
from convscope.recipe import read_config, resolve
from convscope.recipes import RECIPES
from convscope.run import Run
from convscope.studies.executor import Job, LocalExecutor, Outcome, Unwanted
from convscope.training.results import COLUMNS, ONLY_PHASE, write_results

pytest.importorskip("optuna")

SEARCH = {
    "data": "digits",
    "epochs": 1,
    # As many images as fill batches of both sizes: a smaller one at the end is traced again.
    "settings": {"precision": "float32", "split.images": 600},
    "space": {"optimizer.learning_rate": "0.001..0.01:log", "batch_size": "64,128"},
    "progress": Progress(),
}


class Here:
    """Executor in this process, which is interrupted before one trial and stops another."""

    def __init__(self, *, interrupt_before: str = "", stop: str = "") -> None:
        self.trained: list[str] = []
        self._interrupt_before, self._stop = interrupt_before, stop

    def outcomes(
        self, jobs: Iterable[Job], progress: Progress, unwanted: Unwanted | None = None
    ) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            if job.folder.name == self._interrupt_before:
                raise KeyboardInterrupt
            self.trained.append(job.folder.name)
            if job.folder.name == self._stop:
                yield job, Outcome(Run(job.folder), stopped=True)
                continue
            yield from LocalExecutor(own_process=False).outcomes([job], progress)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("searches") / "search"
    with pytest.raises(KeyboardInterrupt):
        convscope.tune(
            **SEARCH, trials=4, confirm=0, out=out, executor=Here(interrupt_before="0003")
        )
    executor = Here(stop="0004")
    found = convscope.tune(**SEARCH, trials=4, confirm=1, out=out, executor=executor)
    return {"out": out, "found": found, "trained": executor.trained}


def test_what_was_trained_before_a_stop_is_not_trained_again_and_nothing_is_lost(resumed):
    found = resumed["found"]
    assert resumed["trained"][:2] == ["0003", "0004"]
    assert [trial.number for trial in found.trials] == [1, 2, 3, 4]
    assert [trial.status for trial in found.trials] == ["finished"] * 3 + ["stopped"]
    assert found.trials[3].score is None


def test_the_first_trial_is_the_recipe_and_all_lie_in_the_space(resumed):
    trials = resumed["found"].trials
    assert trials[0].settings == {"optimizer.learning_rate": 0.001, "batch_size": 128}
    for trial in trials:
        assert 0.001 <= trial.settings["optimizer.learning_rate"] <= 0.01
        assert trial.settings["batch_size"] in (64, 128)
        if trial.score is not None:
            assert trial.score == Run(resumed["out"] / trial.run).metrics["val"]["accuracy"]


def test_only_validation_images_are_looked_at(resumed):
    for file in resumed["out"].glob("**/run.json"):
        run = Run(file.parent)
        assert "test" not in run.metrics
        assert "test_openings" not in run.state


def test_the_best_settings_are_a_file_to_train_with(resumed):
    found = resumed["found"]
    best = found.best
    assert best.score == max(t.score for t in found.trials if t.status == "finished")
    config = resolve(RECIPES.get("tutorial")(), read_config(found.config_file))
    assert config.batch_size == best.settings["batch_size"]
    assert config.optimizer.learning_rate == best.settings["optimizer.learning_rate"]
    with found.table_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == [trial.status for trial in found.trials]


def test_the_winner_is_compared_with_the_recipe_on_a_seed_of_its_own(resumed):
    found = resumed["found"]
    assert found.best.number != 1  # ten times the rate, on a single epoch
    arms = {arm.name: arm for arm in found.confirmation.arms}
    assert arms.keys() == {"recipe", "best"}
    assert [trial.seed for trial in arms["best"].trials] == [1083]
    again = arms["best"].accuracies[0]
    assert f"reach {again:.1%} on average" in found.caution
    page = found.page.read_text(encoding="utf-8")
    assert "Is it better, or was it luck?" in page
    assert found.caution.split(":")[0] in page


def test_again_it_trains_nothing_and_says_the_same(resumed):
    idle = Here()
    again = convscope.tune(**SEARCH, trials=4, confirm=1, out=resumed["out"], executor=idle)
    assert idle.trained == []
    assert again.conclusion == resumed["found"].conclusion
    assert again.trials == resumed["found"].trials


def test_a_search_that_goes_on_draws_new_settings(tmp_path):
    class Nowhere:
        """Executor on which every trial fails."""

        def __init__(self) -> None:
            self.rates: list[float] = []

        def outcomes(self, jobs, progress, unwanted=None):
            for job in jobs:
                self.rates.append(job.config.optimizer.learning_rate)
                yield job, Outcome(Run(job.folder), failure="no place")

    place = Nowhere()
    for trials in (2, 4):
        with pytest.raises(TrainingError, match="no place"):
            convscope.tune(**SEARCH, trials=trials, out=tmp_path / "search", executor=place)
    assert len(place.rates) == len(set(place.rates)) == 4


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"space": {"batch_size": "64,128"}}, RunError, "another --out"),
        ({"space": {"optimizer.momentum": "0.5..0.9"}}, ConfigError, "momentum"),
        ({"space": {"epochs": "1..3"}}, ConfigError, "'epochs' cannot be given with --space"),
        ({"settings": {"batch_size": 64}}, ConfigError, "'batch_size' cannot .* --set gives it"),
        ({"trials": 0}, ConfigError, "--trials must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(resumed, change, error, said):
    with pytest.raises(error, match=said) as refused:
        convscope.tune(**{**SEARCH, "trials": 4, **change}, out=resumed["out"])
    assert "\n" not in str(refused.value)


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^--storage sqlite:////no/such/place\.db: ") as refused:
        convscope.tune(**SEARCH, storage="sqlite:////no/such/place.db", out=tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_a_password_of_the_database_is_neither_said_nor_kept(tmp_path):
    storage, file = "nosuch://ann:secret@db/trials", tmp_path / "out" / "tuning.json"
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"^--storage nosuch://ann:\*\*\*@db/trials: "
        ) as said:
            convscope.tune(**SEARCH, storage=storage, out=tmp_path / "out")
        assert "secret" not in str(said.value) + file.read_text()
        # As an earlier version wrote it.
        file.write_text(file.read_text().replace("***", "secret"))


@pytest.mark.slow
def test_a_kill_repeats_no_finished_trial_and_loses_none(tmp_path):
    out = tmp_path / "search"
    command = [sys.executable, "-m", "convscope", "tune", "digits", "--epochs", "30"]
    command += ["--trials", "5", "--confirm", "0", "--threads", "1", "--out", str(out)]

    def finished() -> list[Path]:
        runs = out.glob("trials/*/run.json")
        return sorted(file.parent for file in runs if Run(file.parent).status == "finished")

    program = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(finished()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    before = {run: (run / "weights/last.keras").stat().st_mtime_ns for run in finished()}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=600)
    assert {run: (run / "weights/last.keras").stat().st_mtime_ns for run in before} == before
    with (out / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert {row["status"] for row in rows} <= {"finished", "stopped"}
    assert len(list(out.glob("trials/*"))) == 5


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_stopped_in_its_process(tmp_path):
    search = {**SEARCH, "epochs": 27, "space": {"optimizer.learning_rate": "1e-6..0.003:log"}}
    found = convscope.tune(**search, trials=14, confirm=0, out=tmp_path / "out")
    stopped = [trial for trial in found.trials if trial.status == "stopped"]
    assert stopped
    for trial in stopped:
        assert trial.epochs < 27
        assert trial.score < found.best.score
        assert Run(tmp_path / "out" / trial.run).status == "interrupted"


class Pretended:
    """Executor that writes the results of three epochs without any training.

    It is killed, as far as others can tell, in one trial: nothing is written after that.
    """

    def __init__(self, killed_in: str = "", kill: Callable[[], None] = lambda: None) -> None:
        self.trained: list[str] = []
        self._killed_in, self._kill = killed_in, kill

    def outcomes(
        self, jobs: Iterable[Job], progress: Progress, unwanted: Unwanted | None = None
    ) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            self.trained.append(job.folder.name)
            if job.folder.name == self._killed_in:
                self._kill()
                raise KeyboardInterrupt
            run = Run(job.folder)
            rows = [
                dict.fromkeys(COLUMNS, 0.5) | {"epoch": epoch, "phase": ONLY_PHASE}
                for epoch in (1, 2, 3)
            ]
            write_results(rows, run.results_file)
            run.write_json(run.metrics_file, {"val": {"accuracy": 0.5}})
            yield job, Outcome(run)


def test_all_epochs_of_a_trial_are_counted(tmp_path):
    found = convscope.tune(
        **{**SEARCH, "epochs": 3}, trials=1, confirm=0, out=tmp_path / "out", executor=Pretended()
    )
    assert [trial.epochs for trial in found.trials] == [3]


@pytest.mark.parametrize("shared", [False, True])
def test_a_trial_at_work_in_a_kill_goes_on_from_a_folder_that_was_moved(tmp_path, shared):
    search = {**SEARCH, "trials": 2, "confirm": 0}
    if shared:
        search["storage"] = f"journal:{tmp_path / 'trials.log'}"
    before, after = tmp_path / "before" / "out", tmp_path / "after" / "out"

    def kill() -> None:
        shutil.copytree(before, after)

    with pytest.raises(KeyboardInterrupt):
        convscope.tune(**search, out=before, executor=Pretended("0002", kill))
    if shared:  # what may be at work on another host is left alone
        elsewhere = Pretended()
        convscope.tune(**search, out=tmp_path / "elsewhere" / "out", executor=elsewhere)
        assert elsewhere.trained == []
    going_on = Pretended()
    found = convscope.tune(**search, out=after, executor=going_on)
    assert going_on.trained == ["0002"]
    assert [trial.status for trial in found.trials] == ["finished"] * 2


def test_a_trial_at_work_in_a_kill_goes_on_from_an_address(tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    search = {**SEARCH, "trials": 2, "confirm": 0, "out": f"file://{tmp_path / 'bucket'}/out"}

    def kill() -> None:
        shutil.copytree(tmp_path / "bucket", tmp_path / "then")

    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "first"))
    with pytest.raises(KeyboardInterrupt):
        convscope.tune(**search, executor=Pretended("0002", kill))
    shutil.rmtree(tmp_path / "bucket")
    (tmp_path / "then").rename(tmp_path / "bucket")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "second"))
    going_on = Pretended()
    found = convscope.tune(**search, executor=going_on)
    assert going_on.trained == ["0002"]
    assert [trial.status for trial in found.trials] == ["finished"] * 2
