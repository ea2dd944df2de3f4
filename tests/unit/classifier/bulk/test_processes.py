"""Workers that are processes: the answers of one process, also when some are killed."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

import brightness
import convscope
from convscope.classifier.bulk.pool import predict_in_pool
from convscope.classifier.bulk.processes import Processes
from convscope.classifier.bulk.worker import Order
from convscope.classifier.exported import read_sealed
from convscope.errors import ConfigError
from convscope.progress import Progress
from convscope.types import PackedImage, UnreadableImage

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return brightness.export(tmp_path_factory.mktemp("model") / "brightness.onnx")


class Deadly(PackedImage):
    """An image that ends the process which unpickles it."""

    def __reduce__(self):
        return os._exit, (9,)


def predict(model, images, **setting):
    return convscope.predict(model, images, batch_size=16, progress=Progress(), **setting)


def test_workers_answer_as_one_process_does_though_one_is_killed(model, tmp_path):
    files = brightness.write_images(tmp_path / "images", 200)
    out = [tmp_path / "a.csv", tmp_path / "b.csv"]
    local = list(predict(model, [files[0].parent], out=out[0]))
    found = []
    for result in predict(model, [files[0].parent], workers=2, out=out[1]):
        found.append(result)
        if len(found) == 20:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    assert found == local
    assert [result.path for result in found] == files
    assert sum(isinstance(result, UnreadableImage) for result in found) == 28
    assert out[0].read_bytes() == out[1].read_bytes()


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_listed(model, tmp_path):
    files = brightness.write_images(tmp_path / "images", 12)
    images = [*files[:3], Deadly(Path("deadly.png")), *files[3:]]
    content, spec = read_sealed(model)
    pool = Processes(Order("sha", "onnxruntime"), content, 2)
    setting = {"spec": spec, "batch_size": 4, "progress": Progress()}
    found = list(predict_in_pool(images, None, pool=pool, **setting))
    assert [result.path for result in found] == [getattr(each, "path", each) for each in images]
    reasons = [result.reason for result in found if isinstance(result, UnreadableImage)]
    assert len(reasons) == 2
    assert reasons[0].startswith("deadly.png cannot be read: a worker was killed 4 times")


@pytest.mark.slow
def test_workers_end_with_a_program_that_is_killed(model, tmp_path):
    files = brightness.write_images(tmp_path / "images", 40)
    context = multiprocessing.get_context("spawn")
    workers = context.Queue()
    program = context.Process(target=_begin, args=(model, files, workers))
    program.start()
    pids = workers.get(timeout=120)
    program.kill()
    program.join()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(pids) == 2


def _begin(model, files, workers) -> None:
    found = predict(model, files, workers=2)
    next(found)
    workers.put([child.pid for child in multiprocessing.active_children()])
    time.sleep(600)


def test_memory_is_reserved_on_a_cluster_only(model):
    with pytest.raises(ConfigError, match="--memory reserves a share of a cluster; give --ray too"):
        predict(model, ["a.png"], workers=2, memory_gb=1)
