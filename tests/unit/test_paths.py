"""Paths as people give them: the home folder, variables, and names that look like either."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from convscope.errors import PathError
from convscope.paths import path_or_none, require_plain_address, short_name, user_path
from convscope.storage import atomic_path, cache_dir, can_be_made, write_text

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A home folder, a variable, and an empty current folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("UNSET", raising=False)
    return folder


@posix
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~", "{home}"),
        ("~/x", "{home}/x"),
        ("$HOME/x", "{home}/x"),
        ("${HOME}/x", "{home}/x"),
        ("${SCRATCH}/a b/c", "{scratch}/a b/c"),
        ("$SCRATCH", "{scratch}"),
        ("x/$SCRATCH.old", "x/{scratch}.old"),
        ("x", "x"),
        ("x/~", "x/~"),
        ("costs 5$", "costs 5$"),
        ("$5", "$5"),
        ("~/*.png", "{home}/*.png"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_home_and_variables_are_expanded(home, tmp_path, given, meant, kind):
    meant = meant.format(home=home, scratch=tmp_path / "scratch")
    assert user_path(kind(given), "--out") == Path(meant)


@posix
def test_a_name_that_exists_is_meant_by_itself(home, monkeypatch):
    for name in ("~", "~x", "$UNSET", "a$HOME"):
        Path(name).mkdir(parents=True)
        assert user_path(name, "--out").samefile(name)
    assert user_path("$UNSET/new", "--out") == Path("$UNSET/new"), "in a folder that exists"
    assert user_path("~/new", "--out") == home / "new", "nobody means a folder called ~"
    assert user_path("./~/new", "--out") == Path("./~/new").absolute()
    # What came out of it leads to the same place once more.
    assert user_path(user_path("./~y", "--out"), "--out") == Path("~y").absolute()
    assert user_path(user_path("$UNSET/new", "--out"), "--out") == Path("$UNSET/new")


@posix
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("$UNSET/x", "--out is '$UNSET/x', but the variable UNSET is not set; set it, or write"),
        ("${UNSET}", "--out is '${UNSET}', but the variable UNSET is not set"),
        ("~/$UNSET", "--out is '~/$UNSET', but the variable UNSET is not set"),
        ("", "--out is empty; give a path"),
        ("  ", "--out is empty; give a path"),
        ("~nobody-of-this-name/x", "--out is '~nobody-of-this-name/x', but there is no user"),
        ("x" * 300, "is too long for a path or a name"),
        ("한" * 100, "is too long for a path or a name"),
        ("x\0y", "--out has a null character in its path"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_line(given, says):
    with pytest.raises(PathError) as caught:
        user_path(given, "--out")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(Path.cwd().iterdir())


@pytest.mark.parametrize("given", [5, None, b"x", ["x"]])
def test_what_is_no_path_is_a_line(given):
    with pytest.raises(PathError, match=rf"^--out is of type {type(given).__name__}; give a path$"):
        user_path(given, "--out")


@posix
def test_an_empty_variable_does_not_lead_to_the_root(monkeypatch):
    monkeypatch.setenv("SCRATCH", "")
    with pytest.raises(PathError, match="SCRATCH is not set"):
        user_path("$SCRATCH/x", "--out")
    monkeypatch.setenv("HOME", "")
    with pytest.raises(PathError, match="the home folder is not known"):
        user_path("~/x", "--out")


def test_what_is_not_given_is_no_path():
    assert path_or_none(None, "--out") is None
    with pytest.raises(PathError):
        path_or_none("", "--out")


@posix
@pytest.mark.skipif(os.name == "posix" and os.getuid() == 0, reason="root may look everywhere")
def test_a_forbidden_place_is_a_line(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o000)
    with pytest.raises(PathError, match="cannot be accessed"):
        user_path(tmp_path / "shut" / "x", "--data")


@posix
def test_links_that_lead_round_are_a_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(PathError, match="cannot be accessed"):
        user_path(tmp_path / "loop" / "x", "--data")


@pytest.mark.parametrize("letter", ["y", "é", "한"])
@pytest.mark.parametrize("n", [10, 80, 235, 236, 240, 245, 251, 255])
def test_files_with_names_of_any_length_are_written(tmp_path, letter, n):
    size = len(letter.encode())
    stem = letter * ((n - 4) // size)
    file = tmp_path / f"{stem}.txt"
    write_text(file, "once")
    write_text(file, "twice")
    assert file.read_text() == "twice"
    assert [item.name for item in file.parent.iterdir() if item.suffix == ".txt"] == [file.name]


def test_the_ending_of_a_temporary_file_says_what_it_is(tmp_path):
    with atomic_path(tmp_path / f"{'x' * 240}.keras") as temporary:
        assert temporary.suffix == ".keras"
        temporary.touch()
    with atomic_path(tmp_path / f"a.{'x' * 240}") as temporary:
        assert len(temporary.name) < 60
        temporary.touch()


def test_cut_names_differ_where_the_whole_ones_do():
    names = {short_name("x" * 300 + end, 200) for end in "abc"}
    assert len(names) == 3
    assert {len(name) for name in names} == {200}
    for n in range(16, 40):
        assert len(short_name("한국어" * 20, n).encode()) <= n


@pytest.mark.parametrize("name", ["", ".", "..", "a.", 'a?*<>|":\\/b', "CON", "com1.x", "a\tb "])
def test_a_short_name_is_one_on_every_system(name):
    short = short_name(name, 40)
    assert short.strip(" .") == short != ""
    assert not set(short) & set('/\\:*?"<>|\t')
    assert short.partition(".")[0].upper() not in ("CON", "COM1")
    assert short_name(short, 40) == short


# The cache, where there is no home folder for it.


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """A folder for temporary files, and no folder named for the cache."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name in ("CONVSCOPE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    # What is set along the way is taken back.
    monkeypatch.setenv("MPLCONFIGDIR", "")
    monkeypatch.delenv("MPLCONFIGDIR")
    return folder


@posix
def test_the_cache_follows_home_and_its_variable(home, temporary, monkeypatch, capsys):
    if sys.platform == "linux":
        assert cache_dir() == home / ".cache" / "convscope"
    monkeypatch.setenv("CONVSCOPE_CACHE", "$SCRATCH/cache")
    assert cache_dir() == Path(os.environ["SCRATCH"]) / "cache"
    monkeypatch.setenv("CONVSCOPE_CACHE", "~/cache")
    assert cache_dir() == home / "cache"
    monkeypatch.setenv("CONVSCOPE_CACHE", "$UNSET/cache")
    with pytest.raises(PathError, match=r"\$CONVSCOPE_CACHE is '\$UNSET/cache', but"):
        cache_dir()
    assert capsys.readouterr().err == ""


@posix
def test_an_empty_variable_of_the_cache_counts_as_none(home, temporary, monkeypatch):
    usual = cache_dir()
    monkeypatch.setenv("CONVSCOPE_CACHE", "")
    assert cache_dir() == usual


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux keeps caches")
def test_a_home_that_is_not_there_gives_a_temporary_cache_and_one_line(
    tmp_path, temporary, monkeypatch, capsys
):
    # Nobody, not even root, can make a folder there.
    monkeypatch.setenv("HOME", os.devnull)
    monkeypatch.setenv("CONVSCOPE_CACHE", "")
    first = cache_dir()
    assert first == temporary / f"convscope-{os.getuid()}"
    assert first.stat().st_mode & 0o777 == 0o700
    assert cache_dir() == first
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"Keeping downloads and measurements in {first}, since the folder ")
    assert "CONVSCOPE_CACHE names another place" in said


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux keeps caches")
def test_a_temporary_cache_that_others_could_write_to_is_not_used(temporary, monkeypatch):
    monkeypatch.setenv("HOME", os.devnull)
    monkeypatch.setenv("CONVSCOPE_CACHE", "")
    trap = temporary / f"convscope-{os.getuid()}"
    trap.mkdir()
    trap.chmod(0o777)
    assert cache_dir() != trap
    assert cache_dir().parent == temporary
    trap.rmdir()
    trap.symlink_to(temporary)
    monkeypatch.setenv("CONVSCOPE_CACHE", "")
    assert cache_dir() not in (trap, temporary)


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux keeps caches")
def test_a_temporary_cache_of_another_user_is_not_used(temporary, monkeypatch):
    monkeypatch.setenv("HOME", os.devnull)
    monkeypatch.setenv("CONVSCOPE_CACHE", "")
    monkeypatch.setattr("convscope.storage._user_id", lambda: os.getuid() + 1)
    trap = temporary / f"convscope-{os.getuid() + 1}"
    trap.mkdir(mode=0o700)
    assert cache_dir() != trap
    assert cache_dir().parent == temporary


def test_a_folder_can_be_made_below_one_that_can_be_written(tmp_path):
    assert can_be_made(tmp_path)
    assert can_be_made(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    assert not can_be_made(tmp_path / "file" / "a")


def test_no_folder_can_be_made_where_this_process_may_not_write(tmp_path, monkeypatch):
    asked = []

    def access(place, mode):
        asked.append((place, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    assert can_be_made(tmp_path)  # it is there
    assert not can_be_made(tmp_path / "a" / "b")
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]


@pytest.fixture
def open_folder():
    """A folder that every user may write to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield name


@pytest.mark.skipif(sys.platform != "linux", reason="needs a user without a name")
@pytest.mark.skipif(sys.platform == "linux" and os.getuid() != 0, reason="only root may change")
def test_a_user_without_home_and_name_has_a_cache(open_folder):
    # Python itself may lie where such a user cannot read.
    code = """
import os, tempfile, platformdirs
from convscope.storage import cache_dir
os.setgroups([]); os.setgid(54321); os.setuid(54321)
print(cache_dir()); cache_dir()
"""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "CONVSCOPE_CACHE", "XDG_CACHE_HOME", "USER", "LOGNAME")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "TMPDIR": str(open_folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{open_folder}/convscope-54321\n", done.stderr
    assert done.stderr.count("\n") == 1
    assert "there is no home folder" in done.stderr


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/runs/birds",
        "file:///srv/a:b@c",
        "abfs://container@account.dfs.core.windows.net/runs",
        "https://host:8080/a@b",
        "sftp://ann@host:22/runs",
        "http://[::1]:8000/x",
        "https://host/x?version=2&password-less",
    ],
)
def test_a_plain_address_is_opened(address):
    require_plain_address(address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("reference://x", "of the kind 'reference' are not opened"),
        ("s3://a::reference://b", "an address with '::' is not opened"),
        ("http://[::1]/a::file://b", "an address with '::' is not opened"),
        ("https://host/x?a=1&Password=abc", "^https://host/x has a password in it"),
        ("https://host/x?db_pwd=abc", "^https://host/x has a password in it"),
        (
            "ftp://ann:secret@host/a",
            "^ftp://ann:\\*\\*\\*@host/a has a password .*FSSPEC_FTP_PASSWORD",
        ),
    ],
)
def test_any_other_address_is_refused(address, said):
    with pytest.raises(PathError, match=said):
        require_plain_address(address)
