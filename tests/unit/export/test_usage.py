"""Code that uses an exported model elsewhere."""

import json
from pathlib import Path

import pytest

from convscope.classifier.spec import ClassifierSpec
from convscope.export import FORMATS


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"in_graph": ("resizing",)}, "(batch, height, width, 3) of any size, resized inside"),
        ({}, "(batch, 224, 160, 3), squashed to that size with Pillow's BILINEAR"),
        ({"fit": "pad"}, "(batch, 224, 160, 3), resized as a whole, between bars of 127 with"),
    ],
)
def test_code_that_uses_an_export_says_what_it_takes_and_names_the_classes(tmp_path, changes, told):
    path = tmp_path / "birds.tflite"
    spec = ClassifierSpec(("finch", "wren"), 224, 160, 3, **changes)
    spec.write(tmp_path / "birds.tflite.json")
    code = FORMATS.get("litert")().usage(path)
    assert "# pixels: uint8, RGB (not OpenCV's BGR), turned upright" in code
    assert told in code
    (line,) = (line for line in code.splitlines() if line.startswith("names = "))
    known = {"json": json, "Path": Path}
    exec(line, known)
    assert known["names"] == ["finch", "wren"]
