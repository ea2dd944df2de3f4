"""`convscope explain`: what it refuses in one line."""

import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize(("layer", "numbers"), [("flatten", 256), ("dense", 128), ("probs", 10)])
def test_a_layer_without_a_map_is_refused_in_one_line(digits_run, fails, tmp_path, layer, numbers):
    file = tmp_path / "digit.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file)
    line = fails(2, "explain", digits_run, file, "--layer", layer, "--out", tmp_path / "pages")
    expected = f"layer '{layer}' gives {numbers} numbers, not a map; choose one of "
    assert line.startswith(f"error: {expected}")
    assert line.endswith("conv1, pool1, conv2, pool2, conv3\n")
    assert not (tmp_path / "pages").exists()
