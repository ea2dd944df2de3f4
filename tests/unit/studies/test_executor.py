"""What a study makes of a run that failed."""

import pytest

from convscope.errors import DivergedError, TrainingError
from convscope.progress import Progress
from convscope.recipe import Recipe, resolve
from convscope.run import Run
from convscope.studies import executor


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
