"""What `train` makes of its arguments before it trains."""

import pytest

from convscope.datasets import DATASETS
from convscope.planning.settle import Request
from convscope.planning.usual import usual_settings
from convscope.progress import Progress
from convscope.recipe import RunConfig, dump_config, flat
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


@pytest.mark.parametrize(
    ("of_file", "given", "wishes", "left_out"),
    [
        # As a search that was won by fine-tuning leaves it.
        (
            {"recipe": "finetune-photos", "model": "efficientnet_lite0", "epochs": 7},
            {},
            {},
            "epochs",
        ),
        (
            {"recipe": "finetune", "model": "mobilenet_v2", "optimizer.learning_rate": 0.1},
            {"data": "folder"},
            {"model": "mobilenet_v2"},
            "optimizer.learning_rate",
        ),
        (
            {"recipe": "fast", "model": "fast-small", "augment.crop": 0.2, "batch_size": 64},
            {},
            {},
            "model, augment.crop, batch_size",
        ),
        (
            {"recipe": "tutorial", "model": "cnn-functional", "epochs": 3},
            {"model": "resnet50"},
            {},
            "epochs",
        ),
        ({"recipe": "auto", "epochs": 3}, {}, {"epochs": 3}, None),
    ],
)
def test_of_the_file_of_a_run_a_search_takes_what_it_does_not_decide(
    of_file, given, wishes, left_out
):
    class Told(Progress):
        def say(self, text):
            told.append(text)

    told = []
    asked = {"data": "folder", "data_path": "/photos", "seed": 4, "split.val_fraction": 0.3}
    file = {**asked, "fit": "pad", **of_file}
    if (recipe := of_file["recipe"]) != "auto":  # the file of a run has all settings
        usual = usual_settings(recipe, of_file["model"], "folder").model_dump(mode="json")
        file = {**flat(usual), **file}
    call = module._Call(
        given,
        file,
        None,
        minutes=None,
        target=None,
        test=None,
        data_dir=None,
        trackers=(),
        executor=None,
        devices=None,
        progress=Told(),
    )
    request = module._wishes_of_search(call)
    assert request == Request(given, {**asked, "fit": "pad", **wishes})
    says = f"The search decides how to train; left out of the file of --config: {left_out}"
    assert told == ([] if left_out is None else [says])
