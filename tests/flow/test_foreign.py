"""What somebody else's run, model or data cannot do: the claims of SECURITY.md."""

import contextlib
import csv
import html.parser
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from PIL import Image
from pyarrow import parquet

import convscope
from convscope.cli import main
from convscope.datasets.division.splits import read_split, verify_split, write_split
from convscope.errors import ConfigError, ConvscopeError, DataError, RunError
from convscope.models._checksum import add_checksum
from convscope.progress import Progress
from convscope.run import Run
from convscope.training.snapshot import load_snapshot

posix = pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")


@pytest.fixture
def foreign(digits_run, tmp_path, monkeypatch) -> Run:
    """A copy of a run, to be spoilt; the current folder is where code would leave its mark."""
    monkeypatch.chdir(tmp_path)
    return Run(shutil.copytree(digits_run, tmp_path / "foreign"))


def mark_was_left(folder: Path) -> bool:
    return any(folder.rglob("*mark*"))


class Evil:
    def __reduce__(self):
        return os.system, ("touch mark",)


def predict(run: Run):
    return list(convscope.predict(run, [run.samples_picture]))


def test_a_lambda_layer_is_not_run(foreign, tmp_path):
    # In a process of its own, as Keras has to be told to write such a file.
    code = f"""
import keras
pixels = keras.Input((None, None, 1))
x = keras.layers.Lambda(lambda t: [t, __import__("os").system("touch mark")][0])(pixels)
x = keras.layers.GlobalAveragePooling2D()(x)
keras.Model(pixels, keras.layers.Dense(10, "softmax")(x)).save({str(foreign.weights("last"))!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    for mark in tmp_path.rglob("mark"):
        mark.unlink()
    with pytest.raises(RunError, match="Lambda"):
        predict(foreign)
    assert not mark_was_left(tmp_path)


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "exec"), ("subprocess", "Popen")]
)
def test_a_model_names_no_function_to_be_called(foreign, tmp_path, module, name):
    file = foreign.weights("last")
    with zipfile.ZipFile(file) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1] |= {
        "module": module,
        "class_name": name,
        "registered_name": None,
        "config": {"command": "touch mark", "args": "touch mark"},
    }
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    with pytest.raises(RunError, match="is damaged"):
        predict(foreign)
    assert not mark_was_left(tmp_path)


@pytest.mark.filterwarnings("ignore:Skipping invalid path")
def test_a_models_archive_writes_nothing_outside(foreign, tmp_path):
    with zipfile.ZipFile(foreign.weights("last"), "a") as archive:
        for path in ("../mark", "../../mark", "assets/../../mark", f"{tmp_path}/mark"):
            archive.writestr(path, b"x")
    with pytest.raises(RunError, match="do not match its own checksum"):
        predict(foreign)
    add_checksum(foreign.weights("last"))
    if keras.__version__.startswith("3.12."):  # it stumbles over such names
        with pytest.raises(RunError, match="is damaged"):
            predict(foreign)
    else:
        assert len(predict(foreign)) == 1
    assert not mark_was_left(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch mark']",
        "seed: !!python/object/new:os.system ['touch mark']",
        "!!python/name:os.system",
    ],
)
def test_settings_run_no_code(foreign, tmp_path, text):
    foreign.config_file.write_text(text)
    with pytest.raises(ConfigError, match="is not valid YAML"):
        convscope.evaluate(foreign, progress=Progress())
    assert not mark_was_left(tmp_path)


@pytest.mark.parametrize("innermost", ["{}", "{seed: 1}"])
@pytest.mark.parametrize("group", ["a", "optimizer"])
def test_settings_that_grow_by_aliases_are_refused_at_once(foreign, group, innermost):
    # Each level holds the one before twice: 2 ** 60 settings if one looks into all.
    levels = [f"{group}: &a0 {innermost}"]
    levels += [f"x{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 60)]
    foreign.config_file.write_text("\n".join([*levels, "optimizer: {x: *a59}", ""]))
    start = time.process_time()
    with pytest.raises(ConvscopeError):
        convscope.evaluate(foreign, progress=Progress())
    assert time.process_time() - start < 5


@pytest.mark.parametrize("file", ["run.json", "classes.json", "metrics.json"])
def test_json_that_is_nested_too_deeply_is_damaged(foreign, file):
    (foreign.path / file).write_text("[" * 200_000)
    with pytest.raises(RunError, match=r"is damaged"):
        convscope.report(foreign, progress=Progress())


def test_one_damaged_run_does_not_hide_the_others(foreign, tmp_path, capsys, monkeypatch):
    def listed(*options):
        monkeypatch.setattr(sys, "argv", ["convscope", "runs", str(tmp_path / "all"), *options])
        with contextlib.suppress(SystemExit):
            main()
        return capsys.readouterr().out

    for name, file, entry in (
        ("a", "metrics.json", {"val": [1]}),
        ("b", "metrics.json", {"test": {"accuracy": "high"}}),
        ("c", "run.json", {"test_openings": 5}),
    ):
        spoilt = Run(shutil.copytree(foreign.path, tmp_path / "all" / name))
        content = json.loads((spoilt.path / file).read_text())
        Run.write_json(spoilt.path / file, content | entry)
    shutil.copytree(foreign.path, tmp_path / "all" / "whole")
    rows = {row["run"]: row for row in json.loads(listed("--json"))}
    assert [rows[name]["status"] for name in ("a", "b", "c", "whole")] == [
        *["damaged"] * 3,
        "finished",
    ]
    assert rows["whole"]["val_accuracy"] == foreign.metrics["val"]["accuracy"]
    assert listed().count("damaged") == 3


def _without_head(run):
    lines = run.results_file.read_text().splitlines(keepends=True)
    run.results_file.write_text("".join(lines[1:2]))


def _with_label_99(run):
    table = parquet.read_table(run.predictions_file)
    labels = pa.array([99, *table["label"].to_pylist()[1:]])
    place = table.column_names.index("label")
    parquet.write_table(table.set_column(place, "label", labels), run.predictions_file)


def _with_a_class_less(run):
    table = parquet.read_table(run.predictions_file)
    parquet.write_table(table.drop_columns(["prob_9"]), run.predictions_file)


def _without_val(run):
    table = parquet.read_table(run.predictions_file)
    of_test = pa.compute.equal(table["split"], "test")
    parquet.write_table(table.filter(of_test), run.predictions_file)


def _without(*entry):
    def spoil(run):
        content = run.metrics
        *path, last = entry
        del (content[path[0]] if path else content)[last]
        run.write_json(run.metrics_file, content)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_head, r"results\.csv is missing or damaged"),
        (_with_label_99, r"predictions\.parquet is damaged \(a label is no class\)"),
        (_with_a_class_less, r"predictions\.parquet is damaged"),
        (_without_val, r"predictions\.parquet is damaged"),
        (_without("weights"), r"metrics\.json is damaged"),
        (_without("val"), r"metrics\.json is damaged: it lacks val; run evaluate"),
        (_without("test", "accuracy"), r"metrics\.json is damaged: it lacks test\.accuracy;"),
    ],
)
def test_a_report_of_damaged_results_is_one_line(foreign, spoil, said):
    spoil(foreign)
    with pytest.raises(RunError, match=said) as error:
        convscope.report(foreign, progress=Progress())
    assert "\n" not in str(error.value)


def test_a_snapshot_runs_no_code(foreign, tmp_path):
    with np.load(foreign.snapshot_file) as file:
        content = {name: file[name] for name in file.files}
    content["00000"] = np.array([Evil()], dtype=object)
    np.savez(foreign.snapshot_file, **content)
    model = keras.saving.load_model(foreign.weights("last"))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(RunError, match="is damaged"):
        load_snapshot(model, foreign.snapshot_file)
    assert not mark_was_left(tmp_path)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.handlers: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}


def test_names_write_no_scripts_into_pages(foreign):
    names = foreign.class_names
    names[:3] = ['<script>mark()</script>"', "<img src=x onerror=mark()>", "</style><iframe>"]
    foreign.classes_file.write_text(json.dumps(names))
    page = convscope.report(foreign, progress=Progress())
    pages = [page.read_text(encoding="utf-8")]
    explained = convscope.explain(foreign, [foreign.samples_picture], progress=Progress())
    pages += [each.page.read_text(encoding="utf-8") for each in explained]
    assert len(pages) == 2
    for text in pages:
        tags = Tags()
        tags.feed(text)
        assert not tags.seen & {"script", "iframe", "object", "embed", "form", "link", "base"}
        assert not tags.handlers
        assert "mark()" in text


def test_names_that_a_terminal_would_obey_are_refused_or_spelled_out(foreign, tmp_path, capsys):
    names = foreign.class_names
    names[0] = "\x1b[2Jzero"
    foreign.classes_file.write_text(json.dumps(names))
    with pytest.raises(RunError, match="control characters"):
        predict(foreign)
    for name in ("a", "b\x1b]0;title\x07"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), number).save(tmp_path / "data" / name / f"{number}.png")
    with pytest.raises(DataError, match=r"'b\\x1b\]0;title\\x07' .* rename it"):
        convscope.load(tmp_path / "data", progress=Progress())


ODD = ["=1+1", "+x", "-x", "@x", "-1", "plain"]
SAFE = ["'=1+1", "'+x", "'-x", "'@x", "-1", "plain"]


def test_names_are_no_formulas_in_spreadsheets(foreign, monkeypatch, capsys):
    rest = foreign.class_names[len(ODD) :]
    wanted = [*SAFE, *rest]
    foreign.classes_file.write_text(json.dumps([*ODD, *rest]))
    shutil.copy(foreign.samples_picture, "=SUM(A1).png")
    monkeypatch.setattr(
        sys, "argv", ["convscope", "predict", str(foreign.path), "=SUM(A1).png", "--format", "csv"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "\r" not in out
    header, row = csv.reader(io.StringIO(out))
    assert header == ["image", "class", *wanted]
    assert row[0] == "./=SUM(A1).png"
    assert Path(row[0]).is_file()
    assert row[1] in wanted


def test_the_split_holds_no_formulas_and_is_still_verified(tmp_path):
    for name in ("=1+1", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            shade = number + 100 * (name == "b")
            Image.new("L", (8, 8), shade).save(tmp_path / "data" / name / f"{number}.png")
    dataset = convscope.load(tmp_path / "data", progress=Progress())
    path = tmp_path / "split.csv"
    write_split(dataset, path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class_name"] for row in rows} == {"'=1+1", "b"}
    assert {row["id"].partition("/")[0] for row in rows} == {".", "b"}
    for part in ("train", "val", "test"):
        verify_split(dataset, path, part)
    assert {row["id"] for row in read_split(path)} == {
        f"{name}/{number}.png" for name in ("=1+1", "b") for number in range(10)
    }


@posix
def test_links_in_place_of_files_are_replaced_not_followed(foreign, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for file in (foreign.metrics_file, foreign.predictions_file, foreign.confusion_table):
        file.unlink()
        file.symlink_to(victim)
    convscope.evaluate(foreign, fresh=True, progress=Progress())
    assert victim.read_text() == "precious"
    assert not foreign.metrics_file.is_symlink()
    assert foreign.metrics["test"]["n_images"] == 360


@posix
def test_pipes_and_circles_do_not_hold_it_up(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), number).save(tmp_path / "data" / name / f"{number}.png")
    os.mkfifo(tmp_path / "data" / "a" / "pipe.png")
    (tmp_path / "data" / "a" / "device.png").symlink_to("/dev/zero")
    (tmp_path / "data" / "b" / "up").symlink_to(tmp_path / "data")
    dataset = convscope.load(tmp_path / "data", progress=Progress())
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 10


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(15):
            Image.new("L", (8, 8), number).save(tmp_path / "data" / name / f"{number}.png")
    huge = shutil.copy(tmp_path / "data" / "a" / "0.png", tmp_path / "data" / "a" / "huge.png")
    os.truncate(huge, 2**30 + 1)  # sparse: it takes no space
    dataset = convscope.load(tmp_path / "data", progress=Progress())
    parts = (dataset.train, dataset.val, dataset.test)
    assert sum(map(len, parts)) == 30
    assert any("larger than 1,073,741,824 bytes" in note for note in dataset.notes), dataset.notes
