"""Somebody's own images, of all sizes and kinds, from the folder to the prediction."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import convscope
from convscope import Progress, Run
from convscope.classifier.classify import at_temperature
from convscope.classifier.keras_model import spec_of
from convscope.cli import main
from convscope.errors import DataError
from convscope.evaluation.predictions import read_predictions
from convscope.planning.plan import run_config

# Names as people give them: markup, mathematics, commas and spaces must come through unharmed.
CLASSES = {0: "[red] :cat: null", 1: "a $1_{ note", 4: "vier, é"}
KINDS = ("jpg", "grey.png", "rgba.png", "palette.png", "JPEG")


def draw(digit: np.ndarray, kind: str, rng: np.random.Generator) -> Image.Image:
    """Return a digit of 8 x 8 pixels enlarged, coloured and in a mode that suits the kind."""
    height, width = (int(side) for side in rng.integers(18, 70, 2))
    ink = Image.fromarray(np.rint(digit * 255 / 16).astype(np.uint8))
    ink = ink.resize((width, height), Image.Resampling.BICUBIC)
    if kind == "grey.png":
        return ink
    paper = tuple(int(value) for value in rng.integers(0, 70, 3))
    colour = tuple(int(value) for value in rng.integers(200, 256, 3))
    if kind == "rgba.png":
        # Nothing but strokes: the paper is the white on which transparency is laid.
        image = Image.new("RGBA", ink.size, (0, 0, 0, 255))
        image.putalpha(Image.eval(ink, lambda value: 255 - value))
        return image
    image = Image.composite(
        Image.new("RGB", ink.size, colour), Image.new("RGB", ink.size, paper), ink
    )
    return image.convert("P", palette=Image.Palette.ADAPTIVE) if kind == "palette.png" else image


def make_photos(root: Path, *, parts: dict[str, int] | None = None) -> Path:
    """Write 40 images of each class, or of each class and part as many as `parts` says."""
    bunch = load_digits()
    rng = np.random.default_rng(0)
    for digit, name in CLASSES.items():
        images = iter(bunch.images[bunch.target == digit])
        for part, count in (parts or {"": 40}).items():
            folder = root / part / name
            for index in range(count):
                kind = KINDS[index % len(KINDS)]
                # Every seventh lies deeper, as on a camera's card.
                place = folder / "more" if index % 7 == 0 else folder
                place.mkdir(parents=True, exist_ok=True)
                draw(next(images), kind, rng).save(place / f"{index:02}.{kind}")
    (root / "READ ME.txt").write_text("taken in June")
    (root / ".hidden").mkdir()
    return root


def state_of(root: Path) -> list[tuple[str, int, int]]:
    files = sorted(root.rglob("*"))
    return [
        (str(path.relative_to(root)), path.stat().st_mtime_ns, path.stat().st_size)
        for path in files
    ]


def train(folder: Path, out: Path, **settings) -> Run:
    return convscope.train(
        "cnn-functional",
        data=folder,
        precision="float32",
        batch_size=16,
        out=out,
        progress=Progress(),
        **settings,
    )


def assert_files_agree_with_the_table(run: Run, folder: Path) -> None:
    saved, _ = read_predictions(run.predictions_file)
    for part in ("val", "test"):
        files = [folder / str(name) for name in saved[part].ids]
        found = list(convscope.predict(run, files, batch_size=7, progress=Progress()))
        assert [result.path for result in found] == files
        probs = np.array([list(result.probs.values()) for result in found])
        wanted = at_temperature(saved[part].probs, spec_of(run, "last").temperature)
        np.testing.assert_allclose(probs, wanted, atol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, module_cache) -> tuple[Path, Run]:
    folder = make_photos(tmp_path_factory.mktemp("photos") / "Photos of [digits]")
    before = state_of(folder)
    run = train(folder, tmp_path_factory.mktemp("runs") / "run $1_{", image_size=20, epochs=6)
    assert state_of(folder) == before, "the user's folder is never written to"
    return folder, run


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVSCOPE_CACHE", str(tmp_path_factory.mktemp("folder-cache")))
        yield


@pytest.fixture
def mine(trained, tmp_path) -> tuple[Path, Run]:
    """Copies to spoil."""
    folder, run = trained
    shutil.copytree(folder, tmp_path / "photos")
    shutil.copytree(run.path, tmp_path / "run")
    return tmp_path / "photos", Run(tmp_path / "run")


def test_it_learns_and_the_run_tells_the_whole_story(trained):
    folder, run = trained
    assert run.class_names == sorted(CLASSES.values())
    metrics = run.metrics
    assert metrics["test"]["n_images"] == 24
    assert metrics["val"]["n_images"] == 20
    assert metrics["test"]["accuracy"] > 0.7, "chance is a third"
    assert set(metrics["test"]["per_class"]) == set(CLASSES.values())
    assert run.state["input"] == {"height": 20, "width": 20, "channels": 3, "scaling": "unit"}
    config = run_config(run)
    assert config.data == "folder"
    assert config.data_path == str(folder.resolve())
    for picture in (run.samples_picture, run.curves_picture, run.confusion_picture):
        with Image.open(picture) as image:
            assert image.convert("L").getextrema()[0] < 128


def test_a_file_is_judged_as_in_the_run(trained):
    folder, run = trained
    assert_files_agree_with_the_table(run, folder)


def test_the_whole_folder_in_one_go(trained):
    folder, run = trained
    found = list(convscope.predict(run, [folder], progress=Progress()))
    assert len(found) == 120
    assert not any(".txt" in str(result.path) for result in found)
    right = sum(result.class_name == result.path.relative_to(folder).parts[0] for result in found)
    assert right > 0.7 * len(found)


def test_a_folder_that_moved(mine):
    folder, run = mine
    before, openings = run.metrics, run.state["test_openings"]
    new_place = folder.rename(folder.with_name("elsewhere"))
    metrics = convscope.evaluate(run, data=new_place, fresh=True, progress=Progress())
    assert metrics == before
    assert len(run.state["test_openings"]) == len(openings) + 1
    # What is saved needs no images.
    assert convscope.evaluate(run, progress=Progress()) == before


def test_no_command_writes_into_the_folder(trained, tiny_backbone, monkeypatch):
    folder, run = trained
    before = state_of(folder)
    image = next(folder.rglob("*.png"))
    out = folder / "new" / "x.png"
    quiet = {"progress": Progress()}
    writers = {
        "train": lambda place: convscope.train(data=folder, out=place, **quiet),
        "folds": lambda place: convscope.train(data=folder, folds=2, out=place, **quiet),
        "compare": lambda place: convscope.compare(
            ["cnn-sequential", "fast-small"], data=folder, out=place, **quiet
        ),
        "suspects": lambda place: convscope.suspects(folder, out=place, **quiet),
        "ladder": lambda place: convscope.ladder(
            tiny_backbone, data=folder, weights="random", out=place, **quiet
        ),
        "explain": lambda place: convscope.explain(run, [image], out=place or out, **quiet),
        "gallery": lambda place: convscope.gallery(run, out=place or out, **quiet),
        "similar": lambda place: convscope.similar(run, image, out=place or out, **quiet),
        "embed": lambda place: convscope.embed(run, [image], out=place or out, **quiet),
    }
    monkeypatch.chdir(folder)
    for name, write in writers.items():
        for place in (out, None):  # None: below the current folder
            with pytest.raises(DataError, match="which is never written to; choose another") as it:
                write(place)
            assert str(folder) in str(it.value), name
    assert state_of(folder) == before


def test_a_folder_that_is_gone_is_named_and_nothing_is_logged(trained, tmp_path):
    _, run = trained
    shutil.copytree(run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    text = run.config_file.read_text().replace("Photos of", "Fotos of")
    run.config_file.write_text(text)
    before = run.state
    with pytest.raises(
        DataError, match="Fotos of.* give their current place with --data$"
    ) as caught:
        convscope.evaluate(run, fresh=True, progress=Progress())
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="nowhere"):
        convscope.evaluate(run, fresh=True, data=tmp_path / "nowhere", progress=Progress())
    assert run.state == before


@pytest.mark.parametrize("change", ["redrawn", "removed", "added", "relabelled"])
def test_images_that_changed_are_not_judged(mine, change):
    folder, run = mine
    saved, _ = read_predictions(run.predictions_file)
    victim = folder / str(saved["test"].ids[0])
    if change == "redrawn":
        with Image.open(victim) as image:
            turned = image.transpose(Image.Transpose.ROTATE_180)
            turned.save(victim)
    elif change == "removed":
        victim.unlink()
    elif change == "added":
        shutil.copy(victim, victim.with_stem("zz new"))
    else:
        other = next(
            path
            for path in sorted(folder.iterdir())
            if path.is_dir() and not path.name.startswith(".") and path not in victim.parents
        )
        victim.rename(other / f"moved {victim.name}")
    before, metrics = run.state, run.metrics
    table = run.predictions_file.read_bytes()
    with pytest.raises(DataError, match="images are not those of the run") as caught:
        convscope.evaluate(run, data=folder, fresh=True, progress=Progress())
    assert str(run.split_file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run.state == before, "no opening of the test set is logged"
    assert run.metrics == metrics
    assert run.predictions_file.read_bytes() == table


def test_parts_that_are_given_are_kept(tmp_path):
    folder = make_photos(tmp_path / "parts", parts={"train": 25, "val": 8, "test": 10})
    before = state_of(folder)
    run = train(folder, tmp_path / "run", image_size=12, epochs=4)
    assert state_of(folder) == before
    rows = [
        (row.rsplit(",", 4)[0].strip('"').partition("/")[0], row.rsplit(",", 2)[1])
        for row in run.split_file.read_text().splitlines()[1:]
    ]
    assert len(rows) == 3 * (25 + 8 + 10)
    assert all(part == split for part, split in rows)
    assert run.metrics["val"]["n_images"] == 24
    assert run.metrics["test"]["n_images"] == 30
    assert run.metrics["test"]["accuracy"] > 0.5
    assert_files_agree_with_the_table(run, folder)


def test_small_images_of_one_size_keep_it_and_grey_stays_grey(tmp_path):
    bunch = load_digits()
    for digit in (0, 1):
        (tmp_path / "grey" / str(digit)).mkdir(parents=True)
        for index, image in enumerate(bunch.images[bunch.target == digit][:30]):
            pixels = np.rint(image[:, 1:7] * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "grey" / str(digit) / f"{index}.png")
    run = train(tmp_path / "grey", tmp_path / "run", epochs=6)
    assert run.state["input"] == {"height": 8, "width": 6, "channels": 1, "scaling": "unit"}
    assert run.metrics["test"]["accuracy"] > 0.7
    assert_files_agree_with_the_table(run, tmp_path / "grey")
    # The number of the epoch is all that may change, and the folder is found again by itself.
    longer = convscope.train(out=run.path, epochs=7, resume=True, progress=Progress())
    assert len(longer.results_file.read_text().splitlines()) == 1 + 7


def test_the_command_line_on_a_folder(mine, monkeypatch, capsys):
    folder, _ = mine
    monkeypatch.chdir(folder.parent)

    def cli(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["convscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0, *capsys.readouterr()

    code, out, _ = cli("data", "show", "photos", "--image-size", 24)
    assert code == 0
    assert all(name in out for name in CLASSES.values())
    code, out, _ = cli("evaluate", "run", "--fresh", "--data", "photos")
    assert code == 0
    assert all(name in out for name in CLASSES.values())
    assert "test images opened 2 times in this run" in out
    code, out, _ = cli("predict", "run", "photos", "--format", "json")
    assert code == 0
    assert {item["class"] for item in json.loads(out)["predictions"]} <= set(CLASSES.values())
    code, out, _ = cli("predict", "run", "photos/[[]red] :cat: null/*.jpg")
    assert code == 0
    assert out.count("photos/[red] :cat: null/") == 6


def test_data_with_other_classes_is_not_judged(mine):
    folder, run = mine
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    shutil.rmtree(classes[0])
    before = run.state
    with pytest.raises(
        DataError, match=f"has {len(classes) - 1} classes and the run was trained on"
    ):
        convscope.evaluate(run, data=folder, fresh=True, progress=Progress())
    assert run.state == before, "no opening of the test set is logged"


def test_floats_and_photographs_of_phones_are_predicted_as_they_were_learnt(tmp_path, module_cache):
    pytest.importorskip("pillow_heif").register_heif_opener()
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(16):
            values = rng.random((16, 16), dtype=np.float32) * 200
            path = tmp_path / "pets" / name / f"{index:02}"
            if index % 4 == 0:
                Image.fromarray(values.astype(np.uint8)).save(path.with_suffix(".heic"), "HEIF")
            elif index % 4 == 1:
                # On its own, white would be taken to be 1.
                Image.fromarray(values / 201).save(path.with_suffix(".tif"))
            else:
                Image.fromarray(values).save(path.with_suffix(".tif"))
    run = train(tmp_path / "pets", tmp_path / "run", epochs=1)
    assert run.state["white"] == 255
    assert spec_of(run, "last").white == 255
    assert_files_agree_with_the_table(run, tmp_path / "pets")
