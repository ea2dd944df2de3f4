"""What all tests share: no test touches the user's cache or the current folder's runs."""

import contextlib
import errno
import gc
import itertools
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from convscope.backend import THREADS, set_environment
from convscope.machine import usable_cores

# Before Keras is imported anywhere: quiet start, and the workers of `-n` share the cores.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if n_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    for _name in itertools.chain(*THREADS.values()):
        os.environ.setdefault(_name, str(max(1, usable_cores() // n_workers)))
# Test files may import Keras before convscope does.
set_environment(os.environ["KERAS_BACKEND"])


# Lets all files import `tiny`.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need Keras, for `make quick` to leave out."""
    for item in items:
        module = vars(item.module) if hasattr(item, "module") else {}
        if "keras" in module or {"digits_run", "digits_export"} & set(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker("engine")


def pytest_collection_finish() -> None:
    """Spare all that is imported by now from the collections of garbage, as `configure` does."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request
) -> None:
    """Give every test an empty cache; those that need the real one ask for the network."""
    if request.node.get_closest_marker("network") is None:
        monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)


@pytest.fixture(autouse=True)
def own_seed() -> None:
    """Let the networks of a test start from the same weights whenever and wherever it runs."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(83)


@pytest.fixture(scope="session", autouse=True)
def unmeasured_precision() -> Iterator[None]:
    """Train in float32 wherever a test names no precision: to measure it takes seconds each time.

    Every test has an empty cache, which remembers no measurement.
    """
    from convscope.training import precision

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "measure_speedup", lambda step: 1.0)
        yield


@pytest.fixture
def flock_fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let every lock that this process asks the system for fail with an error number."""
    import portalocker.portalocker

    from convscope import locks

    monkeypatch.setattr(locks, "_without_locks", set())

    def fail_with(number: int) -> None:
        def flock(fd: int, flags: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(portalocker.portalocker, "LOCKER", flock)

    return fail_with


@pytest.fixture
def no_locks(flock_fails: Callable[[int], None]) -> None:
    """Let every file system be one without locks."""
    flock_fails(errno.ENOSYS)


@pytest.fixture(scope="module")
def tiny_backbone() -> Iterator[str]:
    """The name of a backbone on which training is quick; see tests/tiny.py."""
    import tiny
    from convscope.models.backbones import BACKBONES

    tiny.register()
    yield "tiny"
    del BACKBONES._entries["tiny"]


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def open_page() -> Callable[..., Any]:
    """A function that opens an empty page in Chromium, with a stand-in for a camera.

    It is a context manager with the page, what the browser complains of, and the addresses that
    the page asks for; both lists grow. Not for a whole session: while a browser is open,
    `asyncio.run` cannot be used.
    """
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no browser is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=60_000)
    camera = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")

    @contextlib.contextmanager
    def opened(**settings: Any) -> Iterator[tuple[Any, list[str], list[str]]]:
        complaints: list[str] = []
        asked: list[str] = []
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=path, args=["--no-sandbox", "--disable-gpu", *camera]
            )
            page = browser.new_page(**settings)
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            yield page, complaints, asked
            browser.close()

    return opened


@pytest.fixture(scope="session")
def older_run() -> Path:
    """A run that version 0.1 made, not to be changed; how is told in tests/flow/test_older_runs.py.

    Its models are files of the Keras of that time, which an older Keras may not read.
    """
    import keras
    from packaging.version import Version

    run = Path(__file__).parent / "data" / "run-of-version-0.1"
    with zipfile.ZipFile(run / "weights" / "last.keras") as file:
        writer = json.loads(file.read("metadata.json"))["keras_version"]
    if Version(keras.__version__) < Version(writer):
        pytest.skip(f"Keras {keras.__version__} does not read files of Keras {writer}")
    return run


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on scikit-learn's digits, trained once for all tests that only read it."""
    import convscope
    from convscope.progress import Progress

    folder = tmp_path_factory.mktemp("runs") / "digits"
    convscope.train(
        "cnn-functional",
        data="digits",
        epochs=3,
        precision="float32",
        out=folder,
        progress=Progress(),
    )
    return folder


@pytest.fixture(scope="session")
def digits_export(digits_run: Path, tmp_path_factory: pytest.TempPathFactory):
    """The ONNX file of `digits_run`, and how it was checked; exported once for all tests."""
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        pytest.skip("exports are made with TensorFlow")
    import convscope
    from convscope.export import parity
    from convscope.progress import Progress

    path = tmp_path_factory.mktemp("export") / "digits.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "_SECONDS", 0.02)  # its timing
        _, found = convscope.export(digits_run, out=path, progress=Progress())
    return path, found


@pytest.fixture
def carry_from_first(monkeypatch) -> Callable[[ModuleType], list[bytes]]:
    """A function that carries what a module sends from process 0 in a list, in place of JAX."""

    def carry(module: ModuleType) -> list[bytes]:
        sent: list[bytes] = []

        def from_first(devices: Any, content: bytes) -> bytes:
            if devices.is_first:
                sent.append(content)
            return sent[-1]

        monkeypatch.setattr(module, "from_first", from_first)
        return sent

    return carry
