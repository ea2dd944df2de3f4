"""`convscope serve` as a process: real sockets, signals, and the answers of the trained run."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.engines.seal import sealed
from convscope.errors import ConfigError
from convscope.progress import Progress

START_S = 60


class Process:
    """A server in a process of its own."""

    def __init__(self, folder, *arguments, env=None):
        self.ending = False
        self.log = folder / "log"
        self.out = folder / "out"
        with self.log.open("wb") as log, self.out.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "convscope", "serve", *map(str, arguments), "--port", "0"],
                stdout=out,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        end = time.monotonic() + START_S
        while not (found := re.search(r"http://\S+", self.out.read_text())):
            assert self.popen.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)
        self.url = found[0]
        self.port = int(self.url.rpartition(":")[2])

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self):
        """Send SIGTERM and return the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(20)


@contextlib.contextmanager
def serving(folder, *arguments, **options):
    process = Process(folder, *arguments, **options)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.wait()


@pytest.fixture(scope="module")
def server(digits_export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    path = shutil.copy(digits_export[0], folder / "digits.onnx")
    with serving(folder, path) as process:
        process.path = path
        yield process


@pytest.fixture(scope="module")
def photos(digits_run):
    val = convscope.load("digits", progress=Progress()).val
    images = [Image.fromarray(image.squeeze()).resize((23, 29)) for image in val.images[:8]]
    files = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append(file.getvalue())
    return files


def test_it_answers_as_the_trained_run(server, digits_run, digits_export, photos, tmp_path):
    for index, photo in enumerate(photos):
        (tmp_path / f"{index}.png").write_bytes(photo)
    expected = list(convscope.predict(digits_run, sorted(tmp_path.iterdir()), progress=Progress()))
    files = [("f", (f"{index}.png", photo)) for index, photo in enumerate(photos)]
    said = httpx.post(f"{server.url}/predict", files=files).json()["predictions"]
    for answer, wanted in zip(said, expected, strict=True):
        assert answer["image"] == wanted.path.name
        assert answer["class"] == wanted.class_name
        assert answer["probs"] == pytest.approx(wanted.probs, abs=1e-5)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(photo))) for photo in photos])[..., None]
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(pixels.shape)}
    tensor["data"] = pixels.ravel().tolist()
    said = httpx.post(f"{server.url}/v2/models/digits/infer", json={"inputs": [tensor]}).json()
    wanted = [list(each.probs.values()) for each in expected]
    assert np.reshape(said["outputs"][0]["data"], (8, 10)) == pytest.approx(
        np.array(wanted), abs=1e-5
    )
    content = {"inputs": [tensor], "outputs": [{"name": "logits"}, {"name": "features"}]}
    said = httpx.post(f"{server.url}/v2/models/digits/infer", json=content).json()
    logits, features = (np.reshape(each["data"], each["shape"]) for each in said["outputs"])
    warmed = np.exp(logits / convscope.Classifier(digits_export[0]).spec.temperature)
    probs = warmed / warmed.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probs, wanted, atol=1e-5)
    assert features.shape[0] == 8


def test_the_threads_of_a_server_sleep_between_batches(digits_export):
    from convscope.serving.metrics import Metrics
    from convscope.serving.models import Models, Settings, sources_of

    models = Models(sources_of(digits_export[0]), Settings(), Metrics())
    models.load_all()
    options = models.get().classifier.network._session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_its_process_has_no_framework(server):
    maps = f"/proc/{server.popen.pid}/maps"
    if not os.path.exists(maps):  # noqa: PTH110
        pytest.skip("this system does not say what a process has loaded")
    with open(maps) as file:  # noqa: PTH123
        loaded = file.read()
    assert "onnxruntime" in loaded
    for name in ("tensorflow", "jaxlib", "/torch/", "/scipy/", "sklearn", "matplotlib", "h5py"):
        assert name not in loaded


def test_rubbish_slow_senders_and_hang_ups_harm_nobody(server, photos):
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
    held = []
    for sent in (
        b"",
        b"POST",
        head,
        head + photos[0][:100],
        b"\x16\x03\x01rubbish\r\n\r\n",
        head * 2,
    ):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(sent)
        held.append(connection)
    body = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(
        photos[0]
    )
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(body + photos[0])
    for photo in photos:
        assert httpx.post(f"{server.url}/predict", content=photo).status_code == 200
    for connection in held:
        connection.close()
    text = httpx.get(f"{server.url}/metrics").text
    assert 'convscope_queue_images{model="digits"} 0.0' in text
    assert "defect" not in server.log.read_text()


@contextlib.contextmanager
def under_load(server, photos):
    """Let four clients ask all the time; yield a list with whether each answer is the right one.

    Whoever finds the server gone after its SIGTERM stops asking.
    """
    url, answers, stop = f"{server.url}/predict", [], threading.Event()

    def ask(photo, expected):
        with httpx.Client(timeout=START_S) as client:
            while not stop.is_set():
                try:
                    said = client.post(url, content=photo)
                except httpx.TransportError as error:
                    if not server.ending:
                        answers.append(repr(error))
                    return
                right = said.status_code == 200
                right = right and said.json()["predictions"][0]["class"] == expected
                answers.append(right or said.text)

    threads = []
    for photo in photos[:4]:
        said = httpx.post(url, content=photo, timeout=START_S).json()["predictions"][0]["class"]
        threads.append(threading.Thread(target=ask, args=(photo, said)))
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def reload(server, n_times):
    """Replace the model's file by a damaged one and by one with another checksum, in turn."""
    load = f"{server.url}/v2/repository/models/digits/load"
    content = server.path.read_bytes()
    for number in range(n_times):
        server.path.write_bytes(content[:-1])
        said = httpx.post(load, timeout=START_S)
        assert said.status_code == 400
        assert "digits.onnx is damaged" in said.json()["error"]
        assert str(server.path.parent) not in said.text
        # The same network in a file with another checksum.
        server.path.write_bytes(sealed(content, {"test": str(number)}))
        assert httpx.post(load, timeout=START_S).json()["new_versions"] == ["1"]
    server.path.write_bytes(content)
    server.popen.send_signal(signal.SIGHUP)
    digest = content[-64:].decode()
    end = time.monotonic() + START_S
    while digest not in httpx.get(f"{server.url}/v2/models/digits", timeout=START_S).text:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_nothing_is_lost_across_reloads_under_load(server, photos):
    with under_load(server, photos) as answers:
        reload(server, 5)
    assert set(answers) == {True}
    assert server.popen.poll() is None


@pytest.mark.slow
def test_nothing_is_lost_across_twenty_reloads_and_sigterm_under_load(
    digits_export, photos, tmp_path
):
    path = shutil.copy(digits_export[0], tmp_path / "digits.onnx")
    with serving(tmp_path, path, "--drain-s", "0.5") as process:
        process.path = path
        with under_load(process, photos) as answers:
            reload(process, 20)
            process.ending = True
            assert process.end() == 0
        assert set(answers) == {True}
        # What the server answered has arrived, but for the four that say what is right.
        sent = [line for line in process.lines() if line.get("path") == "/predict"]
        assert {line["status"] for line in sent} == {200}
        assert len(sent) == len(answers) + 4
        print(len(answers), "requests")


def test_sigterm_drains_and_what_was_asked_is_answered(digits_export, photos, tmp_path):
    big = io.BytesIO()
    Image.new("L", (5000, 5000), 90).save(big, "PNG")
    # Long enough for two requests on a busy machine.
    with serving(tmp_path, digits_export[0], "--drain-s", "2") as process:
        said = []

        def ask():
            files = [("f", (str(index), big.getvalue())) for index in range(10)]
            said.append(httpx.post(f"{process.url}/predict", files=files, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        while "convscope_requests_in_progress 2.0" not in httpx.get(f"{process.url}/metrics").text:
            time.sleep(0.01)
        process.popen.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        ready = httpx.get(f"{process.url}/v2/health/ready")
        assert ready.status_code == 503
        assert httpx.post(f"{process.url}/predict", content=photos[0]).status_code == 200
        asking.join()
        assert said[0].status_code == 200
        assert len(said[0].json()["predictions"]) == 10
        assert process.popen.wait(20) == 0
        assert process.lines()[-1]["event"] == "stopped"


def test_a_second_signal_ends_it_at_once_and_kill_leaves_nothing(digits_export, tmp_path):
    place = tmp_path / "tmp"
    place.mkdir()
    for numbers in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGKILL)):
        env = {"TMPDIR": str(place)}
        with serving(tmp_path, digits_export[0], "--drain-s", "60", env=env) as process:
            start = time.monotonic()
            for number in numbers:
                process.popen.send_signal(number)
                time.sleep(0.1)
            assert process.popen.wait(5) != 0
            assert time.monotonic() - start < 5
        assert list(place.iterdir()) == []


def test_workers_share_the_port_and_one_that_dies_is_replaced(digits_export, photos, tmp_path):
    path = shutil.copy(digits_export[0], tmp_path / "digits.onnx")
    with serving(tmp_path, path, "--workers", "2") as process:

        def children():
            found = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(process.popen.pid)],
                capture_output=True,
                text=True,
                check=False,
            )
            return {int(pid) for pid in found.stdout.split()}

        def soon(holds):
            end = time.monotonic() + START_S
            while not holds():
                assert time.monotonic() < end
                time.sleep(0.05)

        soon(lambda: process.out.read_text().count("Ready") == 2)
        first = children()
        assert len(first) == 2
        os.kill(min(first), signal.SIGKILL)
        soon(lambda: len(children() - first) == 1)
        for photo in photos:
            assert httpx.post(f"{process.url}/predict", content=photo).status_code == 200
        soon(lambda: process.out.read_text().count("Ready") == 3)
        # All have the new model, whichever was asked to load it.
        path.write_bytes(sealed(path.read_bytes(), {"test": "new"}))
        load = f"{process.url}/v2/repository/models/digits/load"
        assert httpx.post(load, timeout=START_S).json()["new_versions"] == ["1"]
        soon(lambda: process.log.read_text().count('"new_versions": ["1"]') == 2)
        assert process.end() == 0
        assert children() == set()


def test_it_goes_on_without_the_shell_that_started_it(digits_export, tmp_path):
    command = f"{sys.executable} -m convscope serve {digits_export[0]} --port 0 & echo $!"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(["sh", "-c", command], stdout=out, stderr=subprocess.DEVNULL, check=True)
    end = time.monotonic() + START_S
    while not (found := re.search(r"http://\S+", (tmp_path / "out").read_text())):
        assert time.monotonic() < end
        time.sleep(0.05)
    try:
        time.sleep(0.5)
        assert httpx.get(f"{found[0]}/healthz").status_code == 200
    finally:
        os.kill(int((tmp_path / "out").read_text().split()[0]), signal.SIGTERM)


def test_what_cannot_be_served_is_one_line(digits_export, tmp_path):
    (tmp_path / "damaged.onnx").write_bytes(digits_export[0].read_bytes()[:-1])
    for file, code, words in (("missing", 2, "cannot be read"), ("damaged", 1, "is damaged")):
        done = subprocess.run(
            [sys.executable, "-m", "convscope", "serve", f"{tmp_path}/{file}.onnx", "--port", "0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
        )
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr


def test_an_address_that_is_taken_and_an_empty_key_are_refused(digits_export):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for settings, words in (
            ({"port": taken.getsockname()[1]}, "cannot listen"),
            ({"port": 70_000}, "not in 0..65535"),
            ({"host": "203.0.113.1", "port": 0}, "cannot listen"),
            ({"api_key": " "}, "API key is empty"),
        ):
            with pytest.raises(ConfigError, match=words):
                convscope.serve(digits_export[0], **settings)
