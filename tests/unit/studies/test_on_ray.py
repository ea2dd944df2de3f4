"""What the program sees of jobs on a cluster, which a stand-in for Ray plays here."""

import sys
from unittest.mock import MagicMock

import pytest

from convscope import remote
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.studies.executor import Job
from convscope.studies.on_ray import _RayExecutor


@pytest.fixture
def ray(monkeypatch):
    """Cluster of one node, on which a job is at work until it is cancelled."""
    ray = MagicMock()
    ray.nodes.return_value = [{"Alive": True, "Resources": {"CPU": 1}}]
    ray.get_runtime_context.return_value.gcs_address = "127.0.0.1:1"
    lines = ray.remote.return_value.return_value.options.return_value.remote.return_value
    said = lines.taken.remote.return_value
    ray.get.side_effect = lambda reference: [] if reference is said else ("stopped", False)

    def wait(references, **_):
        ended = references if ray.cancel.called else []
        return ended, [each for each in references if each not in ended]

    ray.wait.side_effect = wait
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


def test_epochs_at_an_address_are_seen_while_a_job_is_at_work(ray, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    study = remote.folder_path(f"file://{tmp_path / 'bucket'}/study", "--out")
    there = Run(tmp_path / "bucket" / "study" / "trials" / "0001")
    there.weights_dir.mkdir(parents=True)
    there.results_file.write_text("epoch\n1\n")
    there.weights("last").write_text("large")
    seen = []

    def unwanted(job: Job) -> bool:
        run = Run(job.folder)
        seen.append((run.results_file.exists(), run.weights("last").exists()))
        return True

    job = Job(RunConfig(), study / "trials" / "0001")
    executor = _RayExecutor(threads=1, gpus=0, memory_gb=None)
    [(_, outcome)] = executor.outcomes([job], Progress(), unwanted)
    assert outcome.stopped
    # Of a job at work the table alone; of one that has ended, everything.
    assert seen == [(True, False)]
    assert outcome.run.weights("last").read_text() == "large"
