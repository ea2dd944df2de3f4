"""The pages of the studio, asked for as a browser does; and what needs no NiceGUI."""

import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convscope.errors import ConfigError, MissingExtraError, RunError
from convscope.evaluation.tried import Tried, write_tried
from convscope.run import Run
from convscope.studio import facts
from convscope.studio.run import _confusions, _matrix
from convscope.studio.server import _listen
from convscope.studio.uploads import Drop
from convscope.studio.workplace import Workplace

OLD_RUN = Path(__file__).parents[2] / "data" / "run-of-version-0.1"
needs_nicegui = pytest.mark.skipif(
    importlib.util.find_spec("nicegui") is None,
    reason="needs NiceGUI: pip install 'convscope[studio]'",
)


def runs_in(folder: Path) -> Path:
    shutil.copytree(OLD_RUN, folder / "runs" / "old")
    (folder / "runs" / "old" / "MODEL_CARD.md").write_text("# Old\n")
    write_tried(
        [
            Tried("frozen", 0, "a small network, frozen", 9.0, 0.4321, 1.5),
            Tried("mirrored", 1, "a broken one", 2.0, None, None, "it diverged"),
        ],
        folder / "runs" / "old" / "tried.csv",
    )
    return folder / "runs"


def test_two_studios_never_have_one_port():
    with _listen(0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match="is a studio running there"):
            _listen(port)


class Browser:
    """What a browser sends to the studio: the cookie, after the first visit."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self.port = int(re.search(r":(\d+)/", address)[1])
        self.cookie = ""
        self.cookie = self.ask(address.partition(str(self.port))[2])[1]["set-cookie"].split(";")[0]

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        fields = {"cookie": self.cookie, **headers}
        connection.request(method, path, body, {k: v for k, v in fields.items() if v})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, dict(answer.getheaders()), text


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    runs_in(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "convscope", "studio", "--port", "0", "--no-open"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    line = process.stdout.readline()
    try:
        assert line.startswith("The studio is at http://127.0.0.1:"), process.communicate()[1]
        yield Browser(line.split()[-1], folder)
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors


@needs_nicegui
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "Runs"),
        ("/runs", "run-of-version|old"),
        ("/run/old", "Confusion matrix"),
        ("/run/old", "a small network, frozen"),
        ("/run/old", "43.2 %"),
        ("/run/old", "a broken one, fold 2"),
        ("/run/old", "it diverged"),
        ("/train?data=digits", "New training run"),
        ("/train?data=digits&run=old", "All other settings are those of that run"),
        ("/use/old", "The same without the studio"),
        ("/data", "fashion_mnist"),
        ("/data?data=digits", "1,797 images of 10 classes"),
        ("/run/no-such-run", "there is no run"),
        ("/run/..%2Fold", "."),
    ],
)
def test_each_page_is_there_and_comes_from_this_machine_only(browser, path, shown):
    status, headers, text = browser.ask(path)
    assert status == (404 if "%2F" in path else 200)
    assert re.search(shown, text)
    assert "default-src 'self'" in headers["content-security-policy"]
    assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', text)


@needs_nicegui
def test_without_the_cookie_there_is_no_page_and_no_socket(browser):
    assert browser.ask("/runs", cookie="")[0] == 401
    assert browser.ask("/_nicegui_ws/socket.io/?EIO=4&transport=polling", cookie="")[0] == 401
    foreign = {"origin": "http://localhost:3000"}
    assert browser.ask("/_nicegui_ws/socket.io/?EIO=4&transport=polling", **foreign)[0] == 403


@needs_nicegui
def test_files_of_a_run_are_shown_in_a_sandbox_and_no_others(browser):
    status, headers, _ = browser.ask("/files/old/MODEL_CARD.md")
    assert status == 200
    assert headers["content-security-policy"].startswith("sandbox ")
    # Another page may have taken its name.
    assert headers["cache-control"] == "no-cache"
    export = browser.folder / "runs" / "old" / "export" / "old.onnx"
    export.parent.mkdir(exist_ok=True)
    export.write_bytes(b"abc")
    assert browser.ask("/download/old/old.onnx")[1]["cache-control"] == "no-cache"
    for path in ("config.yaml", "weights/best.keras", "../old/report.html", "%2e%2e/token", "."):
        assert browser.ask(f"/files/old/{path}")[0] == 404, path
    assert browser.ask("/files/../.studio/token")[0] == 404
    assert browser.ask("/picture/..png")[0] == 404


@needs_nicegui
def test_the_page_of_a_comparison_is_shown_in_a_sandbox(browser):
    from convscope.studies.comparison.comparison import COMPARISON

    path = browser.folder / "runs" / "compared"
    state = {"part": "val", "arms": [], "pairs": [], "val_looks": [], "data": "d", "n_images": 1}
    COMPARISON.write(path, state)
    assert browser.ask("/comparison/compared")[0] == 404
    assert "/comparison/compared" not in browser.ask("/runs")[2]
    (path / "report.html").write_text("<p>it")
    status, headers, text = browser.ask("/comparison/compared")
    assert (status, text) == (200, "<p>it")
    assert "/comparison/compared" in browser.ask("/runs")[2]
    assert headers["content-security-policy"].startswith("sandbox ")
    assert [browser.ask(f"/comparison/{name}")[0] for name in ("old", "none", "..")] == [404] * 3


@needs_nicegui
def test_the_browser_is_told_what_is_taken_and_tells_when_a_drop_is_whole(browser):
    page = browser.ask("/data")[2]
    for ending in (".jfif", ".parquet", ".tar.xz"):
        assert ending in page, ending
    drop = json.loads(browser.ask("/upload/begin", "POST")[2])["drop"]
    sent = browser.ask(f"/upload/{drop}?path=what/1.jpg", "PUT", b"abc")
    kept = Drop(browser.folder / "runs" / ".studio" / "uploads" / drop)
    assert json.loads(sent[2]) == {"path": str(kept.path / "what" / "1.jpg")}
    assert not kept.is_whole
    assert browser.ask(f"/upload/{drop}/end", "POST")[0] == 200
    assert kept.is_whole
    assert browser.ask("/upload/none/end", "POST")[0] == 400


def test_without_nicegui_a_line_names_the_extra(tmp_path, monkeypatch):
    import convscope

    monkeypatch.setitem(sys.modules, "nicegui", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'convscope\[studio\]'"):
        convscope.studio(tmp_path / "runs", open_browser=False)
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_token_stays_after_a_restart_and_is_for_its_owner_only(tmp_path):
    place = Workplace(tmp_path / "runs")
    token = place.token()
    file = place.token_file
    # A folder of runs may be another person's, who would know a token in it.
    assert not file.is_relative_to(tmp_path / "runs")
    assert Workplace(tmp_path / "theirs").token() != token
    assert len(token) >= 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Workplace(tmp_path / "runs").token() == token
    # Somebody else could have read it.
    file.chmod(0o644)
    other = Workplace(tmp_path / "runs").token()
    assert other != token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_folder_of_the_studio_is_no_run(tmp_path):
    place = Workplace(runs_in(tmp_path))
    place.token()
    assert [run.name for run in place.runs()] == ["old"]
    for name in (".studio", "..", "", "a/b", "none"):
        with pytest.raises(RunError):
            place.run(name)


def test_new_runs_get_names_that_nobody_has(tmp_path):
    place = Workplace(runs_in(tmp_path))
    assert place.new_run("old") == place.root / "old-2"
    assert place.new_run("../a b") == place.root / "a-b"
    assert place.new_run("...") == place.root / "run"


def test_the_confusion_of_a_run_counts_what_it_predicted(tmp_path):
    pytest.importorskip("pyarrow")
    from convscope.evaluation.metrics import confusion_matrix
    from convscope.studio import facts

    run = Run(runs_in(tmp_path) / "old")
    found = facts.evaluated(run)
    matrix = confusion_matrix(found.parts["val"])
    assert matrix.sum() == len(found.parts["val"].labels)
    assert matrix.diagonal().sum() / matrix.sum() == pytest.approx(run.metrics["val"]["accuracy"])
    assert found.selected("val", 0.0) == (1.0, pytest.approx(run.metrics["val"]["accuracy"]))
    assert found.selected("val", 1.01) == (0.0, None)
    row = facts.row_of(run)
    assert (row.name, row.val) == ("old", run.metrics["val"]["accuracy"])
    run.state_file.write_text("{")
    assert facts.row_of(run).status == "damaged"


@pytest.mark.parametrize("kind", ["accuracy", "mean_average_precision"])
def test_the_score_of_a_run_has_its_interval(kind):
    part = {"n_images": 9, kind: 0.5, f"{kind}_interval_95": [0.25, 0.75]}
    assert facts.score({"val": part}, "val") == 0.5
    assert facts.interval({"val": part}, "val") == (0.25, 0.75)
    assert facts.interval({"val": {kind: 0.5}}, "val") is None
    assert facts.interval({}, "test") is None


def test_the_matrix_of_very_many_classes_has_those_with_the_most_errors():
    names = [f"class {number}" for number in range(20_000)]
    # Three of class 7 are taken for 19,999, one of 19,999 for 8; the rest is right.
    true, predicted, numbers = (
        np.array(each) for each in ([7, 7, 300, 19_999], [7, 19_999, 300, 8], [5, 3, 9, 1])
    )
    drawn = _confusions((true, predicted, numbers), names)
    assert re.findall(r'data-cell="([^"]*)".*?<b>(\d+)</b>', drawn) == [
        ("7,19999", "3"),
        ("19999,8", "1"),
    ]
    assert "class 7, predicted as class 19999: <b>3</b>" in drawn
    drawn = _matrix((true, predicted, numbers), names)
    assert "The 25 of 20000 classes" in drawn
    assert re.findall(r'<button data-cell="([^"]*)"[^>]*>(\d+)<', drawn) == [
        ("7,7", "5"),
        ("7,19999", "3"),
        ("19999,8", "1"),
    ]


def test_settings_of_a_run_are_read_once_until_they_change(tmp_path, monkeypatch):
    from convscope import recipe
    from convscope.studio import facts

    run = Run(runs_in(tmp_path) / "old")
    reads = []
    read = recipe.read_run_config
    monkeypatch.setattr(recipe, "read_run_config", lambda path: reads.append(path) or read(path))
    first = facts.row_of(run)
    assert facts.row_of(run) == first
    assert len(reads) == 1
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace(f"model: {first.model}", "model: fast-small"))
    assert facts.row_of(run).model == "fast-small"
    assert len(reads) == 2
