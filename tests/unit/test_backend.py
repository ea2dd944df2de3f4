import gc
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from convscope import backend, machine
from convscope.errors import ConfigError, MissingExtraError

RUNNING = keras.config.backend()


@pytest.fixture
def installed(monkeypatch):
    """Return a function that makes only the packages it is given look installed."""
    real = importlib.util.find_spec

    def only(*packages, gpu=False, cuda=False):
        plugins = [importlib.metadata.EntryPoint("xla_cuda12", "it", "jax_plugins")] if cuda else []
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: plugins)

        def find_spec(name, package=None):
            if name in (*backend.BACKENDS, "keras"):
                return real(name) or real("numpy") if name in packages else None
            return real(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/it" if gpu else None)

    return only


@pytest.mark.parametrize("other", sorted(backend.BACKENDS.keys() - {RUNNING}))
def test_another_backend_is_refused_once_keras_runs(other, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", RUNNING)
    with pytest.raises(ConfigError, match=f"already runs on {RUNNING}.*KERAS_BACKEND={other}") as e:
        backend.configure(other)
    assert "\n" not in str(e.value)
    assert os.environ["KERAS_BACKEND"] == RUNNING


def test_the_running_backend_may_be_chosen_again():
    assert backend.configure(RUNNING) == backend.configure(RUNNING) == RUNNING


def test_an_unknown_backend_lists_those_there_are(monkeypatch):
    with pytest.raises(ConfigError, match="unknown backend 'numpy'.*tensorflow, jax, torch"):
        backend.configure("numpy")
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(ConfigError, match="unknown backend 'theano'"):
        backend.configure()


def test_a_missing_backend_gives_the_pip_line(installed):
    installed("keras")
    extra = backend.BACKENDS[RUNNING]
    with pytest.raises(
        MissingExtraError, match=rf"'{RUNNING}'.*pip install 'convscope\[{extra}\]'"
    ):
        backend.configure(RUNNING)


def test_missing_keras_gives_the_pip_line(installed):
    installed(RUNNING)
    with pytest.raises(MissingExtraError, match=r"'keras'.*pip install 'convscope\[train\]'"):
        backend.configure(RUNNING)


@pytest.mark.parametrize(
    ("packages", "gpu", "cuda", "chosen"),
    [
        (("tensorflow", "jax", "torch"), False, True, "tensorflow"),
        (("tensorflow", "jax", "torch"), True, True, "jax"),
        (("tensorflow", "jax", "torch"), True, False, "tensorflow"),
        (("tensorflow", "torch"), True, False, "tensorflow"),
        (("jax", "torch"), False, False, "jax"),
        (("torch",), False, False, "torch"),
        ((), False, False, "tensorflow"),
    ],
)
def test_auto_prefers_what_is_fast_here(installed, packages, gpu, cuda, chosen):
    installed(*packages, gpu=gpu, cuda=cuda)
    assert backend._preferred() == chosen


def test_a_gpu_that_would_be_idle_has_a_line_with_the_command(installed, monkeypatch):
    for name, cpu_only, gpu, cuda, said in (
        ("jax", False, True, False, True),
        ("tensorflow", True, True, False, True),
        ("tensorflow", False, True, False, False),
        ("torch", True, True, False, False),
        ("jax", False, True, True, False),
        ("jax", False, False, False, False),
    ):
        installed(name, gpu=gpu, cuda=cuda)
        found = {"tensorflow-cpu": "2.21"} if cpu_only else {}
        monkeypatch.setattr(backend, "installed_versions", lambda names, found=found: found)
        line = backend.idle_gpu(name)
        assert line is None if not said else "pip install 'jax[cuda12]'" in line


def run_python(code, *, stderr=subprocess.PIPE, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=False,
    )


IMPORTED = """
import gc, sys
print(*(name in sys.modules for name in ("pandas", "sklearn", "matplotlib.pyplot")))
print(gc.isenabled(), gc.get_freeze_count() > 10_000)
import pandas, sklearn.linear_model, matplotlib.pyplot
print(pandas.DataFrame([1]).shape)
"""
"""What of Keras' guests is imported, whether objects are kept for ever, and whether they work."""

OTHER = next(
    (name for name in ("torch", "jax") if name != RUNNING and importlib.util.find_spec(name)), None
)


@pytest.mark.skipif(OTHER is None, reason="only one backend is installed")
def test_the_environment_decides_what_auto_means():
    code = """
import sys
from convscope import backend, machine
before = "keras" in sys.modules
chosen = backend.configure()
import keras
print(before, chosen, keras.config.backend())
"""
    done = run_python(code, KERAS_BACKEND=OTHER)
    assert done.stdout.split() == ["False", OTHER, OTHER]


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
def test_tensorflow_starts_quietly_and_deterministic_over_the_environment():
    # A choice beats $KERAS_BACKEND.
    code = f"""
from convscope import backend, machine
print(backend.configure("tensorflow"))
{IMPORTED}
import tensorflow as tf
import keras
print(keras.config.backend(), tf.config.experimental.enable_op_determinism.__name__)
from tensorflow.python.framework import config
print(config.is_op_determinism_enabled())
"""
    environment = {"KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = run_python(code, **environment)
    chosen, imported, garbage, usable, *lines = done.stdout.splitlines()
    assert chosen == "tensorflow"
    assert lines == ["tensorflow enable_op_determinism", "True"]
    assert done.stderr == ""
    # It is a process of others, whose objects must not be kept for ever.
    assert (imported, garbage, usable) == ("True True True", "True False", "(1, 1)")


@pytest.mark.parametrize(
    ("avx2", "of_user", "expected"), [(True, None, "1"), (False, None, None), (True, "0", "0")]
)
def test_onednn_is_taken_where_it_was_measured_unless_the_user_says_otherwise(
    avx2, of_user, expected, monkeypatch
):
    monkeypatch.setattr(backend, "has_avx2", lambda: avx2)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    # So that what is set here is taken back.
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", of_user or "")
    if of_user is None:
        del os.environ["TF_ENABLE_ONEDNN_OPTS"]
    backend.set_environment("tensorflow")
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected


@pytest.mark.skipif(RUNNING != "tensorflow" or not machine.has_avx2(), reason="needs both")
def test_these_tests_run_on_onednn_as_users_do():
    from tensorflow.python.util import _pywrap_util_port

    said = os.environ["TF_ENABLE_ONEDNN_OPTS"]
    assert _pywrap_util_port.IsMklEnabled() == (said == "1")


THREADS = """
import os, re
from pathlib import Path
from convscope import backend, machine
backend.configure()
import keras
import numpy as np
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
model.predict_on_batch(np.zeros((4, 8), "float32"))
names = [(each / "comm").read_text() for each in Path("/proc/self/task").iterdir()]
# TensorFlow before 2.21 gives its threads no names.
named = any(name.startswith("tf_") for name in names)
print(sum(bool(re.match("tf_(Compute|XLAEigen)", name)) for name in names) if named else "unnamed")
print(*(os.environ.get(name) for name in backend.THREADS[keras.config.backend()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    RUNNING == "torch" or not Path("/proc/self/task").exists() or len(os.sched_getaffinity(0)) < 2,
    reason="threads are counted by their names",
)
def test_no_more_threads_than_the_process_may_keep_busy(monkeypatch):
    for name in backend.THREADS[RUNNING]:
        monkeypatch.delenv(name, raising=False)  # set where workers share the cores
    counted, *set_to = run_python(THREADS, LOKY_MAX_CPU_COUNT="1").stdout.split()
    assert counted in ("1", "unnamed")
    assert set(set_to) == {"1"}
    # Where nothing holds it back, nothing is set.
    counted, *set_to = run_python(THREADS).stdout.split()
    held_back = machine.usable_cores() < len(os.sched_getaffinity(0))
    assert counted in (str(machine.usable_cores()), "unnamed")
    assert set(set_to) == {str(machine.usable_cores()) if held_back else "None"}
    # What the user says counts.
    own = dict.fromkeys(backend.THREADS[RUNNING], "3")
    counted, *set_to = run_python(THREADS, LOKY_MAX_CPU_COUNT="1", **own).stdout.split()
    assert counted in ("3", "unnamed")
    assert set(set_to) == {"3"}


def test_what_the_libraries_say_at_the_start_is_dropped_unless_they_fail(capfd):
    with backend.stderr_held_back():
        os.write(2, b"thousand notes about the CPU\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"

    def fail():
        with backend.stderr_held_back():
            os.write(2, b"libfoo.so is missing\n")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "libfoo.so is missing\n"


@pytest.mark.skipif(os.name != "posix", reason="closes a file descriptor")
def test_a_process_without_standard_error_works_too():
    code = """
import os
from convscope.backend import stderr_held_back
with stderr_held_back():
    print("in")
print("out")
"""
    command = f"exec \"{sys.executable}\" -c '{code}' 2>&-"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.split() == ["in", "out"]


def test_onednn_is_not_said_to_be_chosen_where_tensorflow_has_chosen_already(monkeypatch):
    monkeypatch.setattr(backend, "has_avx2", lambda: True)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    backend.set_environment("tensorflow")
    assert "TF_ENABLE_ONEDNN_OPTS" not in os.environ


def test_what_of_the_environment_changes_the_numbers_is_recorded(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    variables = backend.environment("tensorflow")["variables"]
    assert (
        variables.items() >= {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_NUM_INTRAOP_THREADS": "1"}.items()
    )
    assert variables.keys().isdisjoint({"XLA_FLAGS", "SECRET_TOKEN"})


def test_the_environment_says_what_ran_where():
    found = backend.environment(RUNNING)
    assert json.loads(json.dumps(found)) == found
    assert found["backend"] == RUNNING
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["keras"] == keras.__version__
    assert found["packages"].keys() >= {"convscope", "numpy"}
    assert found["cpu_cores"] == machine.usable_cores() >= 1


SETTINGS = f"""
from convscope import backend, machine
with backend.only_our_own_use():
    print(backend.configure())
{IMPORTED}
import keras
print(keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
from keras.src.backend import config
import os
print(config.keras_home() == os.environ["HOME"] + "/.keras", "KERAS_HOME" in os.environ)
print(keras.config.max_steps_per_epoch())
"""


@pytest.mark.parametrize(
    "content",
    [
        # Each of these keeps Keras from being imported, or changes what comes out.
        pytest.param(
            '{"floatx": "bfloat16", "epsilon": 1, "backend": "theano"}', marks=pytest.mark.slow
        ),
        '{"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first",'
        ' "backend": "cntk", "nnx_enabled": true}',
    ],
    ids=["another age", "other results"],
)
def test_a_settings_file_of_keras_neither_stops_nor_changes_anything(tmp_path, content):
    file = tmp_path / ".keras" / "keras.json"
    file.parent.mkdir()
    file.write_text(content)
    done = run_python(
        SETTINGS, HOME=str(tmp_path), KERAS_BACKEND=RUNNING, KERAS_MAX_STEPS_PER_EPOCH="1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        RUNNING,
        # In a process of our own Keras is imported without what others may hand it.
        "False False False",
        "True True",
        "(1, 1)",
        "float32 1e-07 channels_last",
        "True False",
        "None",
    ]
    assert file.read_text() == content
    assert [path.name for path in file.parent.iterdir()] == ["keras.json"]


def test_settings_of_keras_are_put_right_where_somebody_else_imported_it(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", RUNNING)
    before = keras.config.image_data_format(), keras.config.epsilon()
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(0.5)
    backend.configure()
    assert (keras.config.image_data_format(), keras.config.epsilon()) == before
    assert before == ("channels_last", 1e-7)


def test_the_environment_is_as_it_was_after_keras_is_imported(monkeypatch):
    monkeypatch.setenv("KERAS_HOME", "/somewhere")
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "many")
    before = dict(os.environ)
    with backend._no_keras_settings():
        assert "KERAS_MAX_EPOCHS" not in os.environ
        assert not Path(os.environ["KERAS_HOME"]).exists()
    assert dict(os.environ) == before


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_the_import_as_before(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with backend._without_collections():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
