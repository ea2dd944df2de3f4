"""`convscope predict`: files, folders and patterns in, table, CSV or JSON out."""

import csv
import dataclasses
import io
import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier.bulk.answers import Answers
from convscope.classifier.rejection import LARGEST_ENERGY, energy
from convscope.classifier.spec import ClassifierSpec
from convscope.progress import Progress
from convscope.types import NO_CLASS
from convscope.wording import sureness


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory) -> Path:
    """Twelve test images of the digits as PNG files called LABEL-NUMBER.png, two folders deep."""
    root = tmp_path_factory.mktemp("images") / "digits as files"
    test = convscope.load("digits", progress=Progress()).test
    assert test is not None
    opened = test.open(lambda _: None)
    for index in range(12):
        folder = root if index < 8 else root / "more" / "deeper"
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(opened.images[index].squeeze())
        picture.save(folder / f"{opened.labels[index]}-{index:02}.png")
    (root / "notes.txt").write_text("not an image")
    return root


def images_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*.png"), key=lambda path: path.parts)


@pytest.fixture
def bad_file(tmp_path) -> Path:
    path = tmp_path / "bad.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing of the kind")
    return path


def test_json_has_every_class_and_sums_to_one(cli, digits_run, digit_files):
    done = cli("predict", digits_run, digit_files, "--format", "json")
    assert done.code == 0
    content = json.loads(done.out)
    assert content["skipped"] == []
    assert [Path(item["image"]) for item in content["predictions"]] == images_of(digit_files)
    right = 0
    for item in content["predictions"]:
        assert list(item["probs"]) == list("0123456789")
        assert sum(item["probs"].values()) == pytest.approx(1, abs=1e-5)
        assert item["class"] == max(item["probs"], key=item["probs"].get)
        right += Path(item["image"]).name[0] == item["class"]
    assert right >= 7, "a model that has learnt the digits knows most of twelve"


def test_csv_and_json_say_the_same_whatever_the_batch_size(cli, digits_run, digit_files):
    as_json = json.loads(cli("predict", digits_run, digit_files, "--format", "json").out)
    done = cli("predict", digits_run, digit_files, "--format", "csv", "--batch-size", "5")
    assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert list(rows[0]) == ["image", "class", *"0123456789"]
    for row, item in zip(rows, as_json["predictions"], strict=True):
        assert row["image"] == item["image"]
        assert row["class"] == item["class"]
        for name, prob in item["probs"].items():
            assert float(row[name]) == pytest.approx(prob, abs=1e-5)


@pytest.mark.parametrize("top", [1, 3, 99])
def test_table_has_the_most_probable_classes(cli, digits_run, digit_files, top):
    file = images_of(digit_files)[0]
    probs = json.loads(cli("predict", digits_run, file, "--format", "json").out)
    probs = probs["predictions"][0]["probs"]
    done = cli("predict", digits_run, file, "--top", top)
    assert done.code == 0
    text = " ".join(done.out.split())
    best = sorted(probs.items(), key=lambda item: -item[1])[:top]
    assert " ".join(f"{name} {sureness(prob, 1)}" for name, prob in best) in text
    assert text.count("%") == min(top, 10)


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_a_bad_file_is_named_and_skipped(cli, digits_run, digit_files, bad_file, output):
    good = images_of(digit_files)[:2]
    done = cli("predict", digits_run, good[0], bad_file, good[1], "--format", output)
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("skipped: ")]
    assert str(bad_file) in line
    assert "Traceback" not in done.err
    if output == "json":
        content = json.loads(done.out)
        assert [Path(item["image"]) for item in content["predictions"]] == good
        (skipped,) = content["skipped"]
        assert Path(skipped["image"]) == bad_file
        assert str(bad_file) in skipped["reason"]
    elif output == "csv":
        rows = list(csv.DictReader(io.StringIO(done.out)))
        assert [Path(row["image"]) for row in rows] == good
    else:
        assert "".join(done.out.split()).count(".png") == 2
        assert "bad.png" not in done.out


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_bad_files_only(cli, digits_run, bad_file, output):
    done = cli("predict", digits_run, bad_file, "--format", output)
    assert done.code == 1
    assert f"skipped: {bad_file}" in done.err
    assert "unexpected" not in done.err


def test_patterns_and_folders_and_each_image_once(cli, digits_run, digit_files):
    def seen(*images: object) -> list[Path]:
        done = cli("predict", digits_run, *images, "--format", "json")
        assert done.code == 0
        return [Path(item["image"]) for item in json.loads(done.out)["predictions"]]

    everything = images_of(digit_files)
    flat = [path for path in everything if path.parent == digit_files]
    assert len(flat) == 8
    assert seen(digit_files / "*.png") == flat
    assert seen(digit_files / "**" / "*.png") == everything
    assert seen(digit_files) == everything
    assert seen(flat[3], digit_files, flat[0]) == [
        flat[3],
        *[p for p in everything if p != flat[3]],
    ]


def test_a_path_that_is_not_there(fails, digits_run, digit_files):
    good = images_of(digit_files)[0]
    assert "there is no file or folder nope.png" in fails(
        2, "predict", digits_run, good, "nope.png"
    )
    assert "no image in *.png" in fails(2, "predict", digits_run, "*.png")
    assert "does not exist" in fails(2, "predict", "no-run", good)


@pytest.mark.parametrize(
    ("out", "options"),
    [
        ("a.csv", ["--json"]),
        ("a.csv", ["--format", "json"]),
        ("a.parquet", ["--format", "csv"]),
        ("a.csv", ["--format", "jsonl"]),
    ],
)
def test_a_format_of_standard_output_is_refused_beside_a_file_of_another(fails, out, options):
    said = fails(2, "predict", "x.onnx", "nope.png", "--out", out, *options)
    assert said == (
        f"error: {' '.join(options)} is for standard output, and --out {out} takes the answers, in "
        f"the format of its ending; omit {' '.join(options)}\n"
    )


def test_the_format_of_the_file_may_be_said_twice(fails):
    said = fails(2, "predict", "x.onnx", "nope.png", "--out", "a.CSV", "--format", "csv")
    assert "no file or folder nope.png" in said


def test_no_image_at_all_is_a_usage_error(cli, digits_run):
    done = cli("predict", digits_run)
    assert done.code == 2
    assert "IMAGE" in done.err


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_a_name_that_is_not_utf8(cli, digits_run, digit_files, tmp_path, output):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (tmp_path / name).write_bytes(images_of(digit_files)[0].read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    done = cli("predict", digits_run, tmp_path / name, "--format", output)
    assert done.code == 0, done.err
    assert "caf" in done.out


def test_a_row_stays_one_line_in_a_pipe_and_names_are_no_markup(cli, digits_run, digit_files):
    name = "[bold] :cat: " + "x" * 200 + "\\.png"
    Path(name).write_bytes(images_of(digit_files)[0].read_bytes())
    done = cli("predict", digits_run, name)
    assert done.code == 0
    heading, row = done.out.splitlines()
    assert row.startswith(f"{name}  ")
    assert row.count("%") == 3
    assert heading.split() == ["image", "prediction", "2.", "3."]


def test_an_image_of_no_class_gets_no_class_if_asked(cli, digits_run, digit_files, tmp_path):
    run = shutil.copytree(digits_run, tmp_path / "run")
    spec = ClassifierSpec.read(run / "weights/last.json")
    assert math.log(10) < spec.reject_below < LARGEST_ENERGY
    files = images_of(digit_files)
    plain = json.loads(cli("predict", run, *files, "--format", "json").out)["predictions"]
    probs = np.array([list(item["probs"].values()) for item in plain], np.float32)
    # So that a third of the images is refused.
    least = float(np.sort(energy(probs))[4] - 1e-6)
    dataclasses.replace(spec, reject_below=least).write(run / "weights/last.json")
    refused = (energy(probs) < least).tolist()
    assert sum(refused) == 4
    found = json.loads(cli("predict", run, *files, "--reject", "--json").out)["predictions"]
    for before, now, gone in zip(plain, found, refused, strict=True):
        assert now == (before | {"class": None} if gone else before)
    as_lines = cli("predict", run, *files, "--reject", "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in as_lines] == found
    table = list(
        csv.DictReader(io.StringIO(cli("predict", run, *files, "--reject", "--format", "csv").out))
    )
    assert [row["class"] == NO_CLASS for row in table] == refused
    lines = cli("predict", run, *files, "--reject").out.splitlines()[1:]
    assert [f"{NO_CLASS} (" in line for line in lines] == refused
    # Without the option, as ever.
    assert json.loads(cli("predict", run, *files, "--json").out)["predictions"] == plain


@pytest.mark.parametrize("option", ["--engine=auto", "--workers=2", "--threads=1", "--ray=auto"])
def test_options_of_exported_files_say_how_to_export(cli, digits_run, option):
    done = cli("predict", digits_run, "a.png", option)
    assert done.code == 2
    assert re.match(
        rf"error: {option.partition('=')[0]} is for exported files, .*: convscope export ", done.err
    )


def test_an_image_that_an_earlier_part_could_not_read_counts(cli, monkeypatch):
    monkeypatch.setattr(convscope, "predict", lambda *_, **__: Answers(iter([]), 1))
    done = cli("predict", "x.onnx", "list.txt", "--out", "a.csv")
    assert (done.code, done.err) == (1, "1 image could not be read before, and is in the file\n")


def test_ctrl_c_says_that_the_answers_stay(cli, monkeypatch):
    def stopped(*_, **__):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(convscope, "predict", stopped)
    done = cli("predict", "x.onnx", "list.txt", "--out", "a.csv")
    assert done.code == 130
    assert done.err.strip() == "Stopped. What is answered is kept; repeat the command to resume."
