"""Training on shards at an address, of which few fit on the disk; killed, and resumed."""

import pytest
from killing import assert_same, at_rename, train_until_killed

import convscope
from convscope.progress import Progress
from convscope.storage import cache_dir

pytest.importorskip("fsspec")

SHARD_MB = 0.01
"""156 images of 8 x 8 pixels: eight shards of 1,149 training images and their validation images."""


def test_a_killed_run_ends_as_one_that_never_stopped(tmp_path, monkeypatch):
    address = f"file://{tmp_path / 'bucket'}/digits"
    written = convscope.write_shards(
        "digits", address, shard_mb=SHARD_MB, near=2, progress=Progress()
    )
    assert (written.n_images, written.n_shards) == (1797, 12)
    # Room for four shards of twelve.
    monkeypatch.setenv("CONVSCOPE_SHARDS_GB", str(4.5 * SHARD_MB / 1000))
    settings = {
        "model": "cnn-subclassing",
        "data": address,
        "epochs": 3,
        "precision": "float32",
        "batch_size": 64,
    }
    whole = convscope.train(out=tmp_path / "whole", progress=Progress(), **settings)
    assert whole.metrics["val"]["accuracy"] > 0.3
    kept = list((cache_dir() / "shards").glob("*/*.npy"))
    assert 2 <= len(kept) <= 4

    out = tmp_path / "killed"
    train_until_killed(out, settings, at_rename("snapshot.npz", nth=2, when="after"))
    # On another machine: nothing is fetched yet.
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "other"))
    resumed = convscope.train(resume=out, progress=Progress())
    assert_same(resumed, whole)
    assert convscope.evaluate(resumed, progress=Progress())
