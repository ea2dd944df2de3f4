"""What `train` makes of its arguments before it trains."""

import pytest

from convscope.datasets import DATASETS
from convscope.recipe import RunConfig, dump_config
from convscope.registry import Entry
from convscope.run import Run
from convscope.studies import train as module
from convscope.studies.folds import CROSS_VALIDATION
from convscope.studies.search.auto import SEARCH


class StoppedError(Exception):
    """What is asked of what trains."""


@pytest.fixture
def resumed(monkeypatch, tmp_path):
    """Return a function that resumes something of a dataset of a plugin, given `data`."""
    monkeypatch.setitem(DATASETS._entries, "theirs", Entry("theirs", None, {"place": "PATH"}))

    def stop(*args, **given):
        raise StoppedError(*args[:2], given)

    monkeypatch.setattr(module.single, "resume", stop)
    monkeypatch.setattr(module, "resume_search", stop)
    monkeypatch.setattr(module, "cross_validate", stop)
    monkeypatch.setattr(module, "load_once", lambda *args: None)

    def resume(data):
        with pytest.raises(StoppedError) as caught:
            module.train(data=data, resume=tmp_path)
        return caught.value.args

    return resume


def test_a_dataset_of_a_plugin_that_moved_is_resumed_from_its_new_place(resumed, tmp_path):
    before = RunConfig(data="theirs", data_path="/old/a.zarr")
    moved = {"data": "theirs", "data_path": str(tmp_path / "a.zarr")}

    run = Run(tmp_path)
    run.record(status="interrupted")
    run.config_file.write_text(dump_config(before))
    _, request, _ = resumed(tmp_path / "a.zarr")
    assert request.given == moved
    _, request, _ = resumed("theirs")  # the same command again
    assert request.given == {"data": "theirs"}

    SEARCH.write(tmp_path, {"given": {"data": "theirs"}, "from_file": {}})
    _, given = resumed(tmp_path / "a.zarr")
    assert given["request"].given == moved

    CROSS_VALIDATION.write(tmp_path, {"asked": {**before.model_dump(), "split.folds": 5}})
    asked, _ = resumed(tmp_path / "a.zarr")
    assert (asked.data, asked.data_path) == tuple(moved.values())
