"""Saved models that lead to other files, without Keras."""

import json
import zipfile

import pytest

from convscope.errors import RunError
from convscope.models._weights_file import require_own_values

pytest.importorskip("h5py")


@pytest.mark.parametrize("name", ["TFSMLayer", "\\u0054FSMLayer", "keras.layers>TFSMLayer"])
def test_a_layer_that_loads_another_model_is_refused(tmp_path, name):
    layer = '{"module": "keras.layers", "class_name": "NAME", "config": {"filepath": "/tmp/x"}}'
    text = '{"class_name": "Sequential", "config": {"layers": [LAYER]}}'
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", text.replace("LAYER", layer.replace("NAME", name)))
    with pytest.raises(RunError, match=r"a layer of it \(TFSMLayer\) is in another file"):
        require_own_values(tmp_path / "a.keras")


def test_a_model_of_its_own_layers_is_not(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Dense", "config": {}}))
    require_own_values(tmp_path / "a.keras")
