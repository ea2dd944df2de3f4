"""Files of predictions: a row per image, also after a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convscope.classifier.bulk import answers
from convscope.classifier.bulk.answers import AnswersFile, csv_header
from convscope.errors import ConfigError, DataError, LockTakenError
from convscope.types import ImagePrediction, PackedImage, UnreadableImage

NAMES = ("=cat", "dog")
JOB = {"model": "abc"}


def result(index):
    path = Path(f"{index}.png")
    if index % 5 == 3:
        return UnreadableImage(path, f"{path} is damaged")
    return ImagePrediction(path, {"=cat": index / 100, "dog": 1 - index / 100})


def paths(n):
    return (Path(f"{index}.png") for index in range(n))


def results_of(images):
    return (result(int(getattr(image, "path", image).stem)) for image in images)


def rows_of(path):
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [row[0] for row in csv.reader(file)][1:]
    if path.suffix == ".jsonl":
        return [json.loads(line)["image"] for line in path.read_text().splitlines()]
    import pyarrow.parquet as pq

    return pq.read_table(path).column("image").to_pylist()


def stopped_after_five(path):
    """Leave behind what a process does that is stopped after five of nine images; four are kept."""
    begun = AnswersFile(path, NAMES, JOB).write(results_of(paths(9)), batch=2)
    for _ in range(5):
        next(begun)
    begun.close()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_each_image_has_one_row(kind, tmp_path):
    path = tmp_path / "new" / f"a.{kind}"
    answers = AnswersFile(path, NAMES, JOB)
    done = list(answers.write(results_of(answers.left(paths(12))), batch=5))
    assert len(done) == 12
    assert rows_of(path) == [str(each) for each in paths(12)]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_reason_stands_beside_an_image_that_could_not_be_read(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    list(AnswersFile(path, NAMES, JOB).write(results_of(paths(5))))
    if kind == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["image", "class", "'=cat", "dog", "error"]
    elif kind == "jsonl":
        rows = list(map(json.loads, path.read_text().splitlines()))
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
    errors = [row.get("error") or None for row in rows]
    assert errors == [None, None, None, "3.png is damaged", None]


def test_a_class_called_like_a_column_has_a_column_of_its_own(tmp_path):
    path, probs = tmp_path / "a.csv", {"error": 0.25, "class": 0.5, "classes": 0.25}
    list(AnswersFile(path, probs, JOB).write(iter([ImagePrediction(Path("a.png"), probs)])))
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    named = {"probs.error": "0.25", "probs.class": "0.5", "classes": "0.25"}
    assert row == {"image": "a.png", "class": "class", **named, "error": ""}
    assert csv_header(["classes"], multi_label=True) == ["image", "classes", "probs.classes"]


def test_of_many_classes_few_rows_wait_and_form_a_group(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(answers, "_PROBS", 7)
    monkeypatch.setattr(answers, "_PROBS_OF_GROUP", 14)
    path = tmp_path / "a.parquet"
    begun = AnswersFile(path, NAMES, JOB).write(results_of(paths(10)))
    for _ in range(4):
        next(begun)
    assert json.loads((tmp_path / "a.parquet.part.json").read_text())["n_done"] == 3
    list(begun)
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert [size for size in groups if size] == [9, 1]
    assert rows_of(path) == [str(each) for each in paths(10)]


def test_a_reason_is_no_formula_and_no_command_to_a_terminal(tmp_path):
    path, file = tmp_path / "a.csv", Path("=1+1\x1b[31m.png")
    unreadable = UnreadableImage(file, f"{file} is damaged")
    list(AnswersFile(path, NAMES, JOB).write(iter([unreadable])))
    with path.open(encoding="utf-8", newline="") as opened:
        (_, row) = csv.reader(opened)
    assert row[-1] == r"'=1+1\x1b[31m.png is damaged"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("csv", r"caf\udce9.png"), ("jsonl", "caf\udce9.png"), ("parquet", r"caf\udce9.png")],
)
def test_names_that_are_not_utf8_are_spelled_out(kind, name, tmp_path):
    path, file = tmp_path / f"a.{kind}", Path(os.fsdecode(b"caf\xe9.png"))
    results = [
        ImagePrediction(file, {"=cat": 0.5, "dog": 0.5}),
        UnreadableImage(file, f"{file} is damaged"),
    ]
    assert len(list(AnswersFile(path, NAMES, JOB).write(iter(results)))) == 2
    assert rows_of(path) == [name] * 2
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def packed(n):
    return (PackedImage(path) for path in paths(n))


@pytest.mark.parametrize(
    ("kind", "images"),
    [("csv", paths), ("jsonl", paths), ("csv", packed), ("parquet", paths)],
)
def test_after_a_stop_it_goes_on_with_the_image_after_the_last_recorded(kind, images, tmp_path):
    path = tmp_path / f"a.{kind}"
    whole = tmp_path / f"whole.{kind}"
    list(AnswersFile(whole, NAMES, JOB).write(results_of(paths(23))))
    first = AnswersFile(path, NAMES, JOB)
    begun = first.write(results_of(first.left(images(23))), batch=5)
    for _ in range(13):  # three rows more than were recorded
        next(begun)
    begun.close()
    assert not path.exists()
    second = AnswersFile(path, NAMES, JOB)
    assert second.n_done == 10
    assert len(list(second.write(results_of(second.left(images(23))), batch=5))) == 13
    assert path.read_bytes() == whole.read_bytes()


def test_another_job_or_other_images_do_not_go_on(tmp_path):
    path = tmp_path / "a.csv"
    stopped_after_five(path)
    with pytest.raises(ConfigError, match=r"a.csv.part was begun by another command \(model\)"):
        AnswersFile(path, NAMES, {"model": "def"})
    second = AnswersFile(path, NAMES, JOB)
    assert second.n_done == 4
    with pytest.raises(ConfigError, match=r"number 4 was 3\.png; remove that file"):
        second.left(Path(f"{index}.png") for index in range(5, 14))
    other, third = (AnswersFile(path, NAMES, JOB).write(results_of(paths(9))) for _ in "ab")
    next(other)
    with pytest.raises(LockTakenError, match="another process"):
        next(third)
    with pytest.raises(ConfigError, match="must end in"):
        AnswersFile(tmp_path / "a.xlsx", NAMES, JOB)


def missing():
    """Fail as a list does that is not there."""
    raise DataError("there is no table")
    yield


def test_where_nothing_was_done_another_job_begins(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(DataError, match="no table"):
        list(AnswersFile(path, NAMES, {"images": "mistyped.csv"}).write(missing()))
    assert not list(tmp_path.iterdir())
    # A process that was killed before its first record could not take its files away.
    state = tmp_path / "a.csv.part.json"
    killed = AnswersFile(path, NAMES, JOB).write(results_of(paths(9)))
    next(killed)
    noted = state.read_text()
    killed.close()
    (tmp_path / "a.csv.part").write_text("image,")
    state.write_text(noted)
    second = AnswersFile(path, NAMES, {"model": "def"})
    assert len(list(second.write(results_of(second.left(paths(3)))))) == 3
    assert rows_of(path) == [str(each) for each in paths(3)]
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_what_another_process_finished_meanwhile_stays(tmp_path):
    path = tmp_path / "a.csv"
    stopped_after_five(path)
    late, early = AnswersFile(path, NAMES, JOB), AnswersFile(path, NAMES, JOB)
    assert len(list(early.write(results_of(early.left(paths(9)))))) == 5
    whole = path.read_bytes()
    with pytest.raises(LockTakenError, match="written by another process meanwhile; repeat"):
        list(late.write(results_of(late.left(paths(9)))))
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_a_file_of_the_user_beside_it_stays(tmp_path):
    path, mine = tmp_path / "a.csv", tmp_path / "a.csv.part"
    mine.write_text("mine")
    with pytest.raises(ConfigError, match=r"a.csv.part would be overwritten"):
        AnswersFile(path, NAMES, JOB)
    assert mine.read_text() == "mine"


def test_a_folder_is_refused_at_once_and_a_link_stays_one(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="is a folder; name a file in it"):
        AnswersFile(tmp_path / "folder.csv", NAMES, JOB)
    link, real = tmp_path / "link.csv", tmp_path / "far" / "real.csv"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to(real)
    assert len(list(AnswersFile(link, NAMES, JOB).write(results_of(paths(3))))) == 3
    assert link.is_symlink()
    assert rows_of(real) == ["0.png", "1.png", "2.png"]


def test_images_without_an_answer_are_counted_over_stops(tmp_path):
    path = tmp_path / "a.jsonl"
    stopped_after_five(path)
    second = AnswersFile(path, NAMES, JOB)
    assert (second.n_done, second.n_unreadable) == (4, 1)  # 3.png
    list(second.write(results_of(second.left(paths(9)))))
    assert second.n_unreadable == 2  # 8.png


CODE = """
import sys, time
if sys.argv[2].endswith("parquet"):
    import pyarrow.parquet  # takes longer than it lives otherwise
sys.path.insert(0, sys.argv[1])
from test_answers import *
answers = AnswersFile(Path(sys.argv[2]), NAMES, JOB)
print("begun", flush=True)
for _ in answers.write(results_of(answers.left(paths(90))), batch=7):
    time.sleep(0.002)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_kill_at_any_time_leaves_no_row_twice_and_none_out(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    kills = 0
    while not path.exists():
        command = [sys.executable, "-c", CODE, str(Path(__file__).parent), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
            process.stdout.readline()
            try:
                # Ever longer, as a slow disk needs more than that for the first record.
                process.wait(0.05 + 0.005 * kills)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
    assert kills
    assert rows_of(path) == [str(each) for each in paths(90)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_ctrl_c_keeps_what_was_answered_before_the_first_record(kind, tmp_path):
    path = tmp_path / f"a.{kind}"

    def interrupted():
        yield from results_of(paths(3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(AnswersFile(path, NAMES, JOB).write(interrupted(), batch=100))
    answers = AnswersFile(path, NAMES, JOB)
    done = list(answers.write(results_of(answers.left(paths(5)))))
    assert [each.path.stem for each in done] == ["3", "4"]
    assert rows_of(path) == [str(each) for each in paths(5)]
