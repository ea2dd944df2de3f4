"""Choice of Keras' backend, made before Keras is imported; the versions that a run records."""

import contextlib
import gc
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path

from convscope.errors import ConfigError, MissingExtraError
from convscope.machine import (
    cpu_name,
    has_avx2,
    installed_versions,
    usable_cores,
    visible_cores,
)

BACKENDS = {"tensorflow": "train", "jax": "jax", "torch": "torch"}
"""Backends and the extra that installs each."""

_KERAS_LIMITS = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED")
"""Variables of the environment by which Keras cuts work short, for tests, or works otherwise."""

_FOR_OTHERS = ("IPython", "matplotlib", "pandas", "sklearn")
"""Packages that Keras imports for what users may hand it (tables, notebooks, estimators): two of
the five seconds that it takes. Where they are missing, it goes on without."""

THREADS = {
    "tensorflow": ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    "jax": ("NPROC",),
    "torch": ("OMP_NUM_THREADS",),
}
"""Environment variables that set the number of threads of each backend."""

_NUMERICS = (
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "XLA_FLAGS",
)
"""Variables of the environment that change how backends compute, and so the last bits at least."""

_CHATTER = re.compile(
    r"[IWE]\d{4} |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |WARNING: All log messages before absl"
    r"|To enable the following instructions: "
)
"""Beginnings of the log lines of TensorFlow and XLA; fatal ones ("F0000") are none."""


def is_chatter(line: str) -> bool:
    """Return whether a line comes from the log of the backend and tells the user nothing.

    Examples:
        >>> is_chatter("I0000 00:00:1764.9 206 port.cc:153] oneDNN custom operations are on.")
        True
        >>> is_chatter("Weights: efficientnet-lite0.pth")
        False
    """
    return _CHATTER.match(line) is not None


def configure(backend: str = "auto") -> str:
    """Choose the backend, set the process up for it, and return its name.

    "auto" takes $KERAS_BACKEND if set; otherwise JAX if it is installed with CUDA and there is an
    NVIDIA GPU; otherwise the first installed of TensorFlow, JAX and torch. (On two CPU cores the
    tutorial's CNN trains about 3.5 times faster on TensorFlow than on JAX and twice as fast as on
    torch.)

    Raises:
        ConfigError: If Keras already runs on another backend in this process.
        MissingExtraError: If the backend is not installed.
    """
    if backend == "auto":
        backend = os.environ.get("KERAS_BACKEND") or _preferred()
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend '{backend}'; choose one of: {', '.join(BACKENDS)}")
    if "keras" in sys.modules:
        import keras

        running = keras.config.backend()
        if running != backend:
            raise ConfigError(
                f"Keras already runs on {running} in this process, so it cannot run on {backend}; "
                f"start a new process, or set KERAS_BACKEND={backend} before Keras is imported"
            )
    for package in (backend, "keras"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, BACKENDS[backend] if package == backend else "train")
    os.environ["KERAS_BACKEND"] = backend
    set_environment(backend)
    _import_keras(backend)
    if backend == "tensorflow":
        import tensorflow as tf

        # Its Python part warns about frequent compiling, which choosing among networks needs.
        tf.get_logger().setLevel("ERROR")
        # The same seed gives the same weights, bit for bit; no slowdown could be measured on a CPU.
        tf.config.experimental.enable_op_determinism()
    return backend


def set_environment(backend: str) -> None:
    """Set what a backend reads from the environment when it is imported; the user's own is kept."""
    # By default they start a thread for each visible core, however little time of them a container
    # may have, and then obstruct each other.
    if usable_cores() < visible_cores():
        for name in THREADS[backend]:
            os.environ.setdefault(name, str(usable_cores()))
    if backend == "tensorflow":
        # Its notes about the CPU would bury our lines; errors still come through.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # On Linux it takes oneDNN by itself only on CPUs with units for neural networks (VNNI,
        # BF16, AMX). On others with AVX2 convolutional networks train 1.2 to 1.7 times as fast
        # with it. Once TensorFlow is imported, it has chosen.
        if has_avx2() and "tensorflow" not in sys.modules:
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Run operations as they come, for layers that differ from call to call.

    JAX compiles the branches of such a layer at every call, and keeps them all: RandAugment on 64
    images of 32 pixels took 1.7 s instead of 0.6 s, and gigabytes over an epoch.
    """
    import keras

    if keras.config.backend() != "jax":
        yield
        return
    import jax

    with jax.disable_jit():
        yield


@contextlib.contextmanager
def only_our_own_use() -> Iterator[None]:
    """Let Keras be imported faster in the body, in a process in which nobody else uses it.

    It takes no tables of pandas there, and gives no estimators of scikit-learn.
    """
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)


_is_ours: ContextVar[bool] = ContextVar("_is_ours", default=False)


def _import_keras(backend: str) -> None:
    """Import Keras, and give it the settings that convscope is written for.

    Keras reads `~/.keras/keras.json` at its import, and fails by one of another age or another
    program (a precision that it does not know, a list in the place of settings), or takes over what
    would change results (channels first, another epsilon). So it finds no such file. Where somebody
    has imported it before, the same settings are set.
    """
    if "keras" not in sys.modules:
        missing = _FOR_OTHERS if _is_ours.get() else ()
        with (
            _no_keras_settings(),
            stderr_held_back(),
            _as_if_missing(missing),
            _without_collections(),
        ):
            if backend == "tensorflow":
                importlib.import_module("tensorflow")  # which imports Keras
            importlib.import_module("keras")
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage in the body: what an import makes is there to stay.

    To look through it again and again takes half a second of the two that TensorFlow's import
    takes, and then a fifth of a second in each later collection. So in a process of our own these
    do not look at it either; in another's, that would keep its garbage too.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _is_ours.get():
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _as_if_missing(packages: Iterable[str]) -> Iterator[None]:
    """Let imports of packages fail in the body, as if they were not installed."""
    new = [name for name in packages if name not in sys.modules]
    # What Python takes for a package that is known to be missing.
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


@contextlib.contextmanager
def _no_keras_settings() -> Iterator[None]:
    """Let Keras be imported as if it had no file of settings and no limits in the environment."""
    names = ("KERAS_HOME", *_KERAS_LIMITS)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    home = os.path.expanduser(before.get("KERAS_HOME") or "~/.keras")  # noqa: PTH111
    # Keras takes it for a place where nothing is and nothing can be written, and goes on.
    os.environ["KERAS_HOME"] = str(Path(os.devnull) / "keras")
    try:
        yield
    finally:
        del os.environ["KERAS_HOME"]
        os.environ.update(before)
        settings = sys.modules.get("keras.src.backend.config")
        # Where Keras itself keeps downloads, for those who use it in the same process.
        if settings is not None and Path(home).is_absolute():
            settings._KERAS_DIR = home  # type: ignore[attr-defined]


def configure_for_use(trained_on: str) -> str:
    """Choose the backend for a trained model, which opens on any, and return its name.

    The one that Keras runs on already, otherwise $KERAS_BACKEND, otherwise the one that the model
    was trained on, otherwise any that is installed.

    Args:
        trained_on: Backend in the run's settings.

    Raises:
        ConfigError: If $KERAS_BACKEND is not the name of a backend.
        MissingExtraError: If none is installed.
    """
    if "keras" in sys.modules:
        import keras

        return configure(keras.config.backend())
    if os.environ.get("KERAS_BACKEND"):
        return configure()
    installed = importlib.util.find_spec(trained_on) if trained_on in BACKENDS else None
    return configure(trained_on if installed else "auto")


@contextlib.contextmanager
def precision_policy(precision: str) -> Iterator[None]:
    """Set the precision of layers that are created in the body; weights stay float32.

    Args:
        precision: Precision of the arithmetic: "float32" or "bfloat16".
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def stderr_held_back() -> Iterator[None]:
    """Drop the lines on standard error, unless the body fails: then show them.

    TensorFlow's libraries print some lines while they are loaded, before any log level applies.
    """
    if sys.stderr is None:  # closed by whoever started the process
        yield
        return
    try:
        sys.stderr.flush()
        holder = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:  # no room for temporary files
        yield
        return
    with holder as held:
        visible = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(visible, held.read())
            raise
        finally:
            os.dup2(visible, 2)
            os.close(visible)


def _preferred() -> str:
    installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    if "jax" in installed and shutil.which("nvidia-smi") and _jax_has_cuda():
        return "jax"
    return installed[0] if installed else "tensorflow"


def _jax_has_cuda() -> bool:
    """Return whether JAX is installed with what it needs for an NVIDIA GPU, without importing it.

    The extra "jax" alone computes on the CPU; this is how JAX itself finds its plugins.
    """
    return any("cuda" in each.name for each in importlib.metadata.entry_points(group="jax_plugins"))


def idle_gpu(backend: str) -> str | None:
    """Return a line that says how to use an NVIDIA GPU that is here; None if there is none to say.

    Args:
        backend: Chosen backend; torch, and a TensorFlow that may have CUDA, decide it themselves.
    """
    on_cpu = backend == "tensorflow" and installed_versions(["tensorflow-cpu"])
    if not (on_cpu or backend == "jax") or not shutil.which("nvidia-smi") or _jax_has_cuda():
        return None
    return (
        "Note: this machine has an NVIDIA GPU, but training runs on the CPU; for the GPU (not yet "
        "measured): pip install 'jax[cuda12]'"
    )


def environment(backend: str, plugins: Iterable[str] = ()) -> dict[str, object]:
    """Return versions, machine and what else decides the numbers, as saved with each run.

    Args:
        backend: Chosen backend.
        plugins: Installed packages that the run needs in addition to convscope.
    """
    packages = ("convscope", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_cores": usable_cores(),
        "backend": backend,
        "variables": {
            name: os.environ[name]
            for name in (*THREADS.get(backend, ()), *_NUMERICS)
            if name in os.environ
        },
        "packages": installed_versions((*packages, *plugins)),
    }


def forget_networks(*, free_memory: bool = True) -> None:
    """Reset Keras' names of layers as in a new process; free the memory of earlier networks.

    Freeing memory takes a quarter of a second.
    """
    # Before the first network is built, the backend is not chosen yet.
    if "keras" in sys.modules:
        import keras

        keras.utils.clear_session(free_memory)
