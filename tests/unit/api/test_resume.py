"""`--resume` never destroys: what it cannot go on from, it refuses and leaves as it is."""

import hashlib
import shutil
from pathlib import Path

import pytest

import convscope
from convscope.errors import ConfigError, DataError, RunError, StorageError
from convscope.progress import Progress
from convscope.run import Run


@pytest.fixture
def run(digits_run, tmp_path) -> Run:
    shutil.copytree(digits_run, tmp_path / "run")
    return Run(tmp_path / "run")


def contents(run: Run) -> dict[str, str]:
    files = (path for path in sorted(run.path.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in (".lock", ".state.lock")
    }


def test_without_its_snapshot_it_refuses_and_keeps_its_models(run):
    run.snapshot_file.unlink()
    before = contents(run)
    with pytest.raises(RunError, match=r"has finished 3 epochs, but weights/snapshot\.npz") as told:
        convscope.train(resume=run.path, epochs=400, progress=Progress())
    assert "its models are kept" in str(told.value)
    assert "\n" not in str(told.value)
    assert contents(run) == before


def test_with_fewer_epochs_it_refuses(run):
    before = contents(run)
    with pytest.raises(
        ConfigError, match="has 3 epochs; --resume can increase --epochs, not reduce them to 2"
    ):
        convscope.train(resume=run.path, epochs=2, progress=Progress())
    assert contents(run) == before


def test_a_disk_that_is_full_at_the_start_leaves_the_folder_for_the_next_try(tmp_path, monkeypatch):
    def full(*given, **more):
        raise StorageError("no space left on disk")

    options = {"data": "digits", "epochs": 1, "precision": "float32", "out": tmp_path / "new"}
    monkeypatch.setattr(Run, "record", full)
    with pytest.raises(StorageError):
        convscope.train(progress=Progress(), **options)
    assert not Run(tmp_path / "new").config_file.exists()
    Run.create(tmp_path / "new", "a")


def test_a_run_that_is_named_must_exist_and_one_that_is_to_be_need_not(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        convscope.train(resume=tmp_path / "runn", progress=Progress())
    with pytest.raises(RunError, match="say which run"):
        convscope.train(resume=True, progress=Progress())
    with pytest.raises(ConfigError, match="once"):
        convscope.train(resume=str(tmp_path), out=tmp_path / "run", progress=Progress())
    new = tmp_path / "new"
    options = {"data": "digits", "epochs": 1, "precision": "float32", "test": False}
    run = convscope.train(out=new, resume=True, progress=Progress(), **options)
    assert run.status == "finished"
    grown = convscope.train(out=new, resume=True, progress=Progress(), **{**options, "epochs": 2})
    assert len(grown.results_file.read_text().splitlines()) == 3


def test_a_run_whose_images_moved_goes_on_where_they_are(tmp_path, monkeypatch):
    from PIL import Image

    digits = convscope.load("digits", progress=Progress()).train
    here, there = tmp_path / "here", tmp_path / "there"
    for index in range(120):
        label = int(digits.labels[index])
        if label > 3:
            continue
        place = here / "photos" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[index].squeeze()).save(place / f"{index}.png")
    run = convscope.train(
        "cnn-sequential",
        data=here / "photos",
        epochs=1,
        precision="float32",
        out=tmp_path / "run",
        progress=Progress(),
    )
    there.mkdir()
    (here / "photos").rename(there / "photos")
    with pytest.raises(DataError, match="no longer in .*here/photos; .*--data"):
        convscope.train(resume=run.path, epochs=2, progress=Progress())
    new = there / "photos"
    for verb in ("gallery", "robustness", "report", "doctor"):
        done = getattr(convscope, verb)(run, data=new, progress=Progress())
    commands = [each.command for found in done.findings.values() for each in found.remedies]
    assert commands
    assert all(f" --data {new}" in command for command in commands), commands
    # Without the images too, as far as none is looked at.
    assert convscope.report(run, progress=Progress()).exists()
    found = convscope.doctor(run, progress=Progress())
    assert any("no longer in" in reason for reason in found.unknown.values())
    assert len(found.unknown) < len(found.quiet) + len(found.findings)
    for trap in ("at-chance", "calibration"):
        assert "no longer in" not in found.unknown.get(trap, "")
    longer = convscope.train(resume=run.path, data=new, epochs=2, progress=Progress())
    assert len(longer.results_file.read_text().splitlines()) == 3
    # And it is remembered.
    assert f"data_path: {new}" in Path(run.config_file).read_text()
    convscope.evaluate(run, fresh=True, progress=Progress())
