"""What an executor makes of a run folder that is there already, and of a run that failed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from convscope.errors import DataError, DivergedError, TrainingError
from convscope.progress import Progress
from convscope.recipe import Recipe, RunConfig, dump_config, resolve
from convscope.run import Run
from convscope.storage import write_text
from convscope.studies import executor
from convscope.studies.executor import Job, LocalExecutor, Outcome, execute_here

HERE = RunConfig(data="photos", data_path="/here/photos", batch_size=64)


def outcome_of(config: RunConfig, folder: Path, *, own_process: bool) -> Outcome:
    [(_, outcome)] = LocalExecutor(own_process=own_process).outcomes(
        [Job(config, folder)], Progress()
    )
    return outcome


@pytest.fixture
def finished(tmp_path) -> Run:
    run = Run(tmp_path / "0003")
    write_text(run.config_file, dump_config(HERE))
    run.record(status="finished")
    return run


@pytest.mark.parametrize("own_process", [True, False])
def test_a_finished_run_is_taken_for_its_own_settings_alone(finished, own_process):
    moved = HERE.model_copy(update={"data_path": "/there/photos"})
    for config in (HERE, moved):
        outcome = outcome_of(config, finished.path, own_process=own_process)
        assert outcome.failure is None
        assert outcome.run.path == finished.path
    for change, said in (
        ({"batch_size": 128}, "batch_size 64, not 128"),
        ({"epochs": HERE.epochs + 1}, f"epochs {HERE.epochs}, not {HERE.epochs + 1}"),
    ):
        other = HERE.model_copy(update=change)
        outcome = outcome_of(other, finished.path, own_process=own_process)
        assert outcome.failure == (f"{finished.path} was trained with {said}; choose another --out")
        assert outcome.permanent


@pytest.mark.parametrize(("kind", "permanent"), [(DivergedError, True), (TrainingError, False)])
def test_a_run_that_diverged_is_not_tried_again_and_one_that_lost_a_process_is(
    kind, permanent, tmp_path, monkeypatch
):
    run = Run(tmp_path / "run")

    def follow(*_: object) -> str:
        run.path.mkdir()
        Run.write_json(run.state_file, {"created": "now"})
        with pytest.raises(kind), run.recording_status():
            raise kind("no more")
        return "no more"

    monkeypatch.setattr(executor, "_follow", follow)
    job = executor.Job(resolve(Recipe()), run.path)
    outcome = executor.execute(job, Progress())
    assert (outcome.failure, outcome.permanent) == ("no more", permanent)


def test_a_run_is_refused_on_other_images_than_its_study_began_with(tmp_path, monkeypatch):
    found = SimpleNamespace(dataset=SimpleNamespace(provenance={"fingerprint": "sha256:new"}))
    monkeypatch.setattr("convscope.planning.settle.prepare", lambda *_: found)
    monkeypatch.setattr("convscope.api.train.train", lambda *_, out, **__: Run(out))
    job = Job(HERE, tmp_path / "run", fingerprint="sha256:old")
    with pytest.raises(DataError, match="^the images in /here/photos are not those with which"):
        execute_here(job, Progress())
    for same in ("sha256:new", None):
        job = Job(HERE, tmp_path / "run", fingerprint=same)
        assert execute_here(job, Progress()).path == tmp_path / "run"


def test_the_process_of_a_job_gets_all_of_it(tmp_path):
    job = Job(HERE, tmp_path / "run", str(tmp_path), fingerprint="sha256:old")
    assert executor._job_of(json.loads(json.dumps(executor._order_of(job)))) == job
