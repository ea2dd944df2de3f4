"""Prediction of many images on a real Ray cluster."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from ray_cluster import cluster_of, kill, until

import brightness
import convscope
from convscope.progress import Progress

pytest.importorskip("ray")
pytest.importorskip("onnx")

N_IMAGES = 60_000


def shards_in(folder: Path, n_images: int) -> list[Path]:
    """Write shards as WebDataset does: images beside their labels; one image in 999 is damaged."""
    folder.mkdir()
    shards = []
    for first in range(0, n_images, 10_000):
        shards.append(folder / f"shard-{first // 10_000:03}.tar")
        with tarfile.open(shards[-1], "w") as packed:
            for index in range(first, min(first + 10_000, n_images)):
                image = io.BytesIO()
                Image.new("L", (6, 6), index % 256).save(image, "PNG")
                content = b"damaged" if index % 999 == 500 else image.getvalue()
                for name, each in ((f"{index:06}.png", content), (f"{index:06}.cls", b"1")):
                    info = tarfile.TarInfo(name)
                    info.size = len(each)
                    packed.addfile(info, io.BytesIO(each))
    return shards


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_program_lose_no_image_and_answer_none_twice(tmp_path):
    model = brightness.export(tmp_path / "brightness.onnx")
    shards_in(tmp_path / "shards", N_IMAGES)
    images, out = str(tmp_path / "shards" / "*.tar"), tmp_path / "answers.jsonl"
    local = tmp_path / "local.jsonl"
    for _ in convscope.predict(model, [images], out=local, progress=Progress()):
        pass

    def n_done() -> int:
        state = Path(f"{out}.part.json")
        return json.loads(state.read_text())["n_done"] if state.exists() else 0

    with cluster_of(tmp_path, head_cores=0) as cluster:
        first, _ = cluster.add_worker(), cluster.add_worker()

        def start() -> subprocess.Popen[bytes]:
            command = ["predict", str(model), images, "--out", str(out), "--ray", cluster.address]
            with (tmp_path / "program.log").open("ab") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "convscope", *command],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

        program = start()
        until(lambda: n_done() >= 15_000, 300, "a quarter")
        kill(first)
        until(lambda: n_done() >= 30_000, 300, "half of it, on the other worker")
        kill(program)
        assert n_done() < N_IMAGES
        cluster.add_worker()
        program = start()
        # Some images cannot be read.
        assert program.wait(timeout=600) == 1, (tmp_path / "program.log").read_text()

    rows = [json.loads(line)["image"] for line in out.read_text().splitlines()]
    assert len(rows) == len(set(rows)) == N_IMAGES
    assert out.read_bytes() == local.read_bytes()
