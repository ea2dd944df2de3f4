"""What `train` makes of its arguments before it trains."""

import pytest

from convscope.datasets import DATASETS
from convscope.progress import Progress
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

    def resume(data=None, progress=None):
        with pytest.raises(StoppedError) as caught:
            module.train(data=data, resume=tmp_path, progress=progress)
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


def test_an_address_is_said_before_what_names_it_goes_on(resumed, tmp_path):
    class Told(Progress):
        def say(self, text):
            told.append(text)

    for kind in ("run", "search", "cross-validation"):
        told, at = [], f"memory://{kind}/a"
        place = RunConfig(data="shards", data_path=at).model_dump()
        if kind == "run":
            run = Run(tmp_path)
            run.record(status="interrupted")
            run.config_file.write_text(dump_config(RunConfig(**place)))
        elif kind == "search":
            SEARCH.write(tmp_path, {"given": {}, "from_file": {"data_path": at}})
        else:
            CROSS_VALIDATION.write(tmp_path, {"asked": {**place, "split.folds": 5}})
        resumed(progress=Told())
        assert told == [f"Images of the run: {at}"]
        told.clear()
        resumed(tmp_path, progress=Told())
        assert told == []
