"""`convscope data show` and `convscope data check`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of two classes with eight images each, made of the digits 3 and 7."""
    bunch = load_digits()
    root = tmp_path / "pictures"
    for digit in (3, 7):
        (root / f"class {digit}").mkdir(parents=True)
        for index, image in enumerate(bunch.images[bunch.target == digit][:8]):
            pixels = np.kron(np.rint(image * 255 / 16), np.ones((4, 4))).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"class {digit}" / f"{index}.png")
    return root


def state_of(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))


def test_show_counts_the_classes_and_leaves_no_file(cli, tmp_path):
    done = cli("data", "show", "--data", "digits")
    assert done.code == 0
    assert list(tmp_path.iterdir()) == []
    lines = done.out.splitlines()
    assert lines[0].split() == ["class", "train", "val", "test"]
    counts = {line.split()[0]: list(map(int, _numbers(line))) for line in lines[1:12]}
    true = np.bincount(load_digits().target)
    for digit in range(10):
        assert sum(counts[str(digit)]) == true[digit]
    assert sum(counts["all"]) == 1797
    assert counts["all"] == [1149, 288, 360]
    assert "8 x 8 pixels, grey" in done.out
    assert "CC BY 4.0" in done.out
    assert "picture" not in done.out


def test_show_draws_where_it_is_asked_to(cli):
    done = cli("data", "show", "--data", "digits", "--out", "few.png")
    assert done.code == 0
    with Image.open("few.png") as picture:
        assert picture.format == "PNG"
        assert picture.convert("L").getextrema()[0] < 64, "it is not blank"
    assert done.out.endswith("picture      few.png\n")


def test_show_draws_versions_of_images_under_settings_of_augmentation(cli):
    drawn = {}
    for name in ("0", "0.3", "0.3 again"):
        crop = f"augment.crop={name.split()[0]}"
        done = cli("data", "show", "--data", "digits", "--set", crop, "--out", f"{name}.png")
        assert done.code == 0
        with Image.open(f"{name}.png") as picture:
            drawn[name] = np.asarray(picture.convert("L"))
    assert not np.array_equal(drawn["0"], drawn["0.3"])
    np.testing.assert_array_equal(drawn["0.3"], drawn["0.3 again"])


def test_show_takes_settings_of_augmentation_and_of_the_split_alone(cli, fails):
    counts = cli("data", "show", "--data", "digits", "--set", "split.val_fraction=0.5").out
    assert list(map(int, _numbers(counts.splitlines()[11]))) == [718, 719, 360]
    command = ("data", "show", "--data", "digits", "--set")
    assert "augment.crop is seen in a picture only" in fails(2, *command, "augment.crop=0.2")
    assert "only settings of split and augment" in fails(2, *command, "epochs=3", "--out", "x.png")
    assert "did you mean 'augment.crop'" in fails(2, *command, "augment.krop=1", "--out", "x.png")
    assert not Path("x.png").exists()


@pytest.mark.parametrize("verb", ["check", "show"])
def test_a_table_of_labels_is_never_the_result(fails, folder, verb):
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.png"))]
    rows = "".join(f"{name},{name.partition('/')[0]}\n" for name in names)
    beside = folder.parent / "labels.png"
    beside.write_text(f"file,label\n{rows}")
    listed = folder.parent / "list.csv"
    listed.write_text("file,label\n" + rows.replace("class", f"{folder.name}/class"))
    out = "is one of the inputs, which are never replaced"
    data = ("data", verb, "--data", folder, "--labels", f"{beside}:file=file")
    assert out in fails(2, *data, "--out", beside)
    out_of_list = listed.with_suffix(".png") if verb == "show" else listed
    if verb == "show":
        out_of_list.symlink_to(listed)
    assert out in fails(2, "data", verb, "--data", listed, "--out", out_of_list)
    assert listed.read_text().startswith("file,label")


def test_show_has_the_counts_for_programs(cli):
    facts = json.loads(cli("data", "show", "digits", "--json").out)
    true = np.bincount(load_digits().target)
    parts = facts["counts"]
    assert list(parts) == ["train", "val", "test"]
    for digit in range(10):
        assert sum(part[str(digit)] for part in parts.values()) == true[digit]
    assert facts["image_shape"] == [8, 8, 1]
    assert facts["picture"] is None


@pytest.mark.parametrize("command", ["show", "check", "suspects"])
def test_data_is_a_word_or_an_option_but_not_two_things(cli, fails, monkeypatch, folder, command):
    given = []

    def verb(data, **options):
        given.append(data)
        raise KeyboardInterrupt

    for name in ("load", "check", "suspects"):
        monkeypatch.setattr(f"convscope.{name}", verb, raising=False)
    for words in (("digits",), ("--data", "digits"), ("digits", "--data", "digits")):
        assert cli("data", command, *words).code == 130
    assert given == ["digits"] * 3
    line = fails(2, "data", command, "digits", "--data", folder)
    assert f"the data is given twice: digits and --data {folder}; give it once" in line
    if command != "show":
        assert "name the data: --data" in fails(2, "data", command)


def _numbers(line: str) -> list[str]:
    return [number.replace(",", "") for number in line.split()[1:]]


def test_show_takes_a_folder_and_says_what_it_does_to_the_images(cli, folder, tmp_path):
    before = state_of(folder)
    out = tmp_path / "elsewhere" / "grid.png"
    done = cli("data", "show", folder, "--image-size", "12", "--out", out)
    assert done.code == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "12 x 12 pixels, grey" in done.out
    assert "images become 12 x 12 pixels, grey (all are 32 x 32 pixels)" in " ".join(
        done.err.split()
    )
    assert state_of(folder) == before


def test_show_refuses(cli, fails, tmp_path):
    assert "did you mean 'digits'?" in fails(2, "data", "show", "digit")
    assert "nowhere" in fails(2, "data", "show", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
    done = cli("data", "show", "digits", "--image-size", "0")
    assert done.code == 2
    assert "--image-size" in done.err


def test_check_of_clean_data_is_exit_code_0(cli, folder, tmp_path):
    before = state_of(folder)
    done = cli("data", "check", folder)
    assert done.code == 0, done.out
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"], "no file unless asked"
    report = json.loads(cli("data", "check", "--data", folder, "--json").out)
    assert report["has_errors"] is False
    assert report["n_images"] == 16
    assert list(report["counts"].values()) == [{"class 3": 8, "class 7": 8}]
    assert state_of(folder) == before


def test_check_finds_broken_files_and_is_exit_code_1(cli, folder, tmp_path):
    (folder / "class 3" / "broken.png").write_bytes(b"no image")
    done = cli("data", "check", folder, "--out", "deep/findings.json")
    assert done.code == 1
    assert "class 3/broken.png" in done.out
    assert "all of it  deep/findings.json" in done.out
    report = json.loads((tmp_path / "deep" / "findings.json").read_text())
    assert report["has_errors"] is True
    kinds = {finding["kind"]: finding for finding in report["findings"]}
    assert kinds["unreadable"]["files"] == ["class 3/broken.png"]
    assert kinds["unreadable"]["remedy"]


def test_check_names_a_file_on_each_line(cli, folder):
    for index in range(3):
        (folder / "class 3" / f"{index}.png").write_bytes(b"")
    lines = cli("data", "check", folder).out.splitlines()
    named = [line for line in lines if "class 3/" in line and "is empty (0 bytes)" in line]
    assert len(named) == 3
    assert not any("\\x0a" in line for line in lines)


def test_check_finds_a_leak_between_parts(cli, folder, tmp_path):
    split = tmp_path / "split"
    for part in ("train", "test"):
        for digit in (3, 7):
            (split / part / f"class {digit}").mkdir(parents=True)
    for digit in (3, 7):
        for index in range(8):
            part = "train" if index < 5 else "test"
            source = folder / f"class {digit}" / f"{index}.png"
            target = split / part / f"class {digit}" / f"{index}.png"
            target.write_bytes(source.read_bytes())
    leaked = (split / "train" / "class 7" / "1.png").read_bytes()
    (split / "test" / "class 7" / "again.png").write_bytes(leaked)
    done = cli("data", "check", split, "--json")
    assert done.code == 1
    report = json.loads(done.out)
    groups = [
        set(group)
        for finding in report["findings"]
        if finding["severity"] == "error"
        for group in finding["groups"]
    ]
    assert {"train/class 7/1.png", "test/class 7/again.png"} in groups


def test_check_refuses(fails, tmp_path):
    assert "did you mean 'digits'?" in fails(2, "data", "check", "digit")
    assert "nowhere" in fails(2, "data", "check", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(2, "data", "check", tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_check_of_a_registered_dataset_looks_at_its_pixels(cli, tmp_path):
    done = cli("data", "check", "digits", "--out", "all.json")
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["n_images"] == 1797
    assert done.code == (1 if report["has_errors"] else 0)
    assert "1,797 images" in done.out


@pytest.mark.parametrize("command", ["show", "check"])
def test_the_data_folder_is_not_written_to_from_inside_it(
    cli, fails, folder, tmp_path, monkeypatch, command
):
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    assert cli("data", command, ".").code == 0
    assert sorted(folder.rglob("*")) == before
    line = fails(2, "data", command, "--data", ".", "--out", "class 3/result.png")
    assert "would be inside the data folder" in line
    assert sorted(folder.rglob("*")) == before
    result = tmp_path / "result.png"
    assert cli("data", command, ".", "--out", result).code == 0
    assert result.exists()
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "command", [("data", "show", "digits"), ("models", "show", "cnn-functional")]
)
def test_a_picture_needs_an_ending_that_says_its_kind(cli, command, tmp_path):
    done = cli(*command, "--out", tmp_path / "picture.txt")
    assert done.code == 2
    assert ".png" in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def tabled(folder) -> Path:
    """The same images in one folder, their classes in the table beside it."""
    rows = ["image_id,kind"]
    for path in sorted(folder.rglob("*.png")):
        name = f"{path.parent.name[-1]}-{path.name}"
        rows.append(f"{name.removesuffix('.png')},{path.parent.name}")
        path.rename(folder / name)
    for place in [path for path in folder.iterdir() if path.is_dir()]:
        place.rmdir()
    folder.with_name("labels.csv").write_text("\n".join(rows))
    return folder


def test_labels_in_a_table(cli, fails, tabled):
    facts = json.loads(cli("data", "show", tabled, "--labels", "labels.csv", "--json").out)
    assert facts["class_names"] == ["class 3", "class 7"]
    assert sum(sum(counts.values()) for counts in facts["counts"].values()) == 16
    assert facts["provenance"]["labels"] == str(tabled.parent / "labels.csv")
    alone = json.loads(cli("data", "show", "--data", "labels.csv", "--json").out)
    assert alone["counts"] == facts["counts"]
    assert alone["provenance"]["source"] == str(tabled.parent)
    said = fails(2, "data", "show", "--data", tabled)
    assert f"labels.csv has labels of 16 images: --labels {tabled.parent / 'labels.csv'}" in said


def test_other_labels_are_other_data(cli, tabled):
    def fingerprint() -> str:
        done = cli("data", "show", tabled, "--labels", "labels.csv", "--json")
        return json.loads(done.out)["provenance"]["fingerprint"]

    before = fingerprint()
    table = tabled.with_name("labels.csv")
    table.write_text(table.read_text().replace("3-0,class 3", "3-0,class 7"))
    assert fingerprint() != before


def test_check_of_labels_in_a_table(cli, tabled):
    report = json.loads(cli("data", "check", tabled, "--labels", "labels.csv", "--json").out)
    assert report["counts"] == {"train": {"class 3": 8, "class 7": 8}}
    table = tabled.with_name("labels.csv")
    table.write_text(f"{table.read_text()}\n3-0,class 7\n")
    done = cli("data", "check", tabled, "--labels", "labels.csv", "--json")
    assert done.code == 1
    kinds = {finding["kind"]: finding["severity"] for finding in json.loads(done.out)["findings"]}
    assert kinds["labels-contradict"] == "error"


def test_no_result_is_written_beside_images_of_a_list(fails, tabled):
    said = fails(2, "data", "show", "--data", "labels.csv", "--out", tabled / "grid.png")
    assert "which is never written to" in said


@pytest.mark.parametrize("as_list", [True, False])
def test_the_table_of_the_labels_is_not_replaced(fails, folder, tmp_path, as_list):
    table = tmp_path / "labels.csv"
    root = tmp_path if as_list else folder
    rows = [f"{file.relative_to(root)},{file.parent.name}" for file in folder.rglob("*.png")]
    table.write_text("\n".join(["file,label", *rows]))
    before = table.read_bytes()
    data = ["--data", table] if as_list else ["--data", folder, "--labels", table]
    (tmp_path / "other.json").hardlink_to(table)
    for out in (table, tmp_path / "other.json"):
        assert "one of the inputs" in fails(2, "data", "check", *data, "--out", out)
        assert table.read_bytes() == before
