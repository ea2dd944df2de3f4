"""A run whose labels are in a table: trained, moved, resumed, evaluated."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import convscope
from convscope import Progress
from convscope.errors import ConfigError, DataError
from convscope.planning.plan import run_config


def test_a_run_finds_its_table_again_where_both_have_moved(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    assert keras.__name__ == "keras"
    images = tmp_path / "here" / "images"
    images.mkdir(parents=True)
    bunch = load_digits()
    rows = ["id,digit,split"]
    for digit in (0, 1):
        for number, pixels in enumerate(bunch.images[bunch.target == digit][:30]):
            name = f"{digit}{number:02}"
            Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(
                images / f"{name}.png"
            )
            rows.append(f"{name},{digit},{('train', 'val', 'test')[max(0, number % 5 - 2)]}")
    table = images.parent / "train.csv"
    table.write_text("\n".join(rows))

    run = convscope.train(
        "cnn-functional",
        data=images,
        labels=table,
        epochs=1,
        precision="float32",
        out=tmp_path / "run",
        progress=Progress(),
    )
    assert run_config(run).labels == "../train.csv"
    assert (run.metrics["val"]["n_images"], run.metrics["test"]["n_images"]) == (12, 12)

    moved = shutil.move(images.parent, tmp_path / "there") / "images"
    with pytest.raises(DataError, match="no longer in"):
        convscope.evaluate(run, fresh=True, test=False, progress=Progress())
    again = convscope.evaluate(run, fresh=True, test=False, data=moved, progress=Progress())
    assert again["val"]["n_images"] == 12
    seen = convscope.gallery(run, n=3, data=moved, progress=Progress())
    assert len(seen) == 3
    assert "leaks" not in convscope.doctor(run, data=moved, progress=Progress()).unknown
    longer = convscope.train(resume=run.path, data=moved, epochs=2, progress=Progress())
    assert run_config(longer).labels == "../train.csv"

    elsewhere = shutil.move(moved.parent / "train.csv", tmp_path / "labels.csv")
    with pytest.raises(DataError, match="there is no table"):
        convscope.evaluate(run, fresh=True, test=False, data=moved, progress=Progress())
    options = {"fresh": True, "test": False, "data": moved, "progress": Progress()}
    convscope.evaluate(run, labels=elsewhere, **options)
    elsewhere.write_text(elsewhere.read_text().replace("003,0,val", "003,1,val"))
    with pytest.raises(DataError, match="the val images are not those of the run: 1 differ"):
        convscope.evaluate(run, labels=elsewhere, **options)


def test_a_table_of_labels_needs_a_folder(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na,x\n")
    with pytest.raises(ConfigError, match="a dataset of image files, such as data folder; set"):
        convscope.train("cnn-functional", labels=table, out=tmp_path / "run", progress=Progress())
    with pytest.raises(ConfigError, match="digits has its own labels"):
        convscope.train("cnn-functional", data="digits", labels=table, progress=Progress())
