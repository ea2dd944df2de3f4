"""What all tests share: no test touches the user's cache or the current folder's runs."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before Keras is imported anywhere: quiet start, and two workers do not fight for the cores.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need Keras, for `make quick` to leave out."""
    for item in items:
        module = vars(item.module) if hasattr(item, "module") else {}
        if "keras" in module or "digits_run" in getattr(item, "fixturenames", ()):
            item.add_marker("engine")


@pytest.fixture(autouse=True)
def own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request
) -> None:
    """Give every test an empty cache; those that need the real one ask for the network."""
    if request.node.get_closest_marker("network") is None:
        monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)


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
