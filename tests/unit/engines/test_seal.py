"""Facts and a checksum at the end of an exported file."""

from pathlib import Path

import pytest

from convscope.engines.seal import fact_in, require_whole, sealed
from convscope.errors import IntegrityError

PATH = Path("cats.onnx")
MODEL = bytes(range(256))
FACTS = {"convscope.spec": '{"class_names": ["고양이", "dog"]}' + " " * 300, "producer": "x"}


def test_facts_come_back_whatever_their_length():
    content = sealed(MODEL, FACTS)
    require_whole(content, PATH)
    assert content.startswith(MODEL)
    assert {key: fact_in(content, key) for key in FACTS} == FACTS
    with pytest.raises(ValueError, match="no licence"):
        fact_in(content, "licence")


def test_a_change_of_any_byte_is_refused_by_name():
    content = sealed(MODEL, FACTS)
    for place in range(len(content)):
        for flip in (1, 0x80):
            changed = bytearray(content)
            changed[place] ^= flip
            with pytest.raises(IntegrityError, match=r"cats\.onnx is damaged"):
                require_whole(bytes(changed), PATH)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100])
def test_a_file_that_is_cut_short_or_of_another_kind_is_refused(length):
    content = sealed(MODEL, FACTS)
    for damaged in (content[:length], content[: -length or None] if length else b"", MODEL * 2):
        with pytest.raises(IntegrityError):
            require_whole(damaged, PATH)


def test_onnx_reads_the_facts_as_its_own_metadata():
    onnx = pytest.importorskip("onnx")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])],
        )
    )
    read = onnx.load_from_string(sealed(model.SerializeToString(), FACTS))
    found = {entry.key: entry.value for entry in read.metadata_props}
    assert found.items() >= FACTS.items()
    assert len(found["convscope.sha256"]) == 64
