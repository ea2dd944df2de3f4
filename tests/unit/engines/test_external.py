"""ONNX files whose values are in other files, wherever in the model they say so."""

from pathlib import Path

import pytest

from convscope.classifier.exported import Classifier, with_spec
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import ENGINES
from convscope.engines.external import PARTS, require_self_contained
from convscope.errors import RunError

PATH = Path("cats.onnx")


def identity(onnx, **attributes):
    return onnx.helper.make_node("Identity", ["x"], ["y"], **attributes)


def graph(onnx, *nodes, tensors=(), sparse=()):
    value = [onnx.helper.make_tensor_value_info(name, 1, ["n"]) for name in "xy"]
    return onnx.helper.make_graph(
        *([identity(onnx), *nodes], "g", value[:1], value[1:], tensors), sparse_initializer=sparse
    )


def tensor(onnx, **external):
    return onnx.TensorProto(name="w", data_type=1, dims=[4], raw_data=bytes(16), **external)


def model(onnx, where, each):
    """A model with a tensor somewhere."""
    helper = onnx.helper
    whole = {"tensors": [each]} if where == "initializer" else {}
    nodes = {
        "attribute": lambda: [identity(onnx, a=each)],
        "attribute of several": lambda: [identity(onnx, a=[tensor(onnx), each])],
        "branch": lambda: [identity(onnx, a=graph(onnx, tensors=[each]))],
        "branches in branches": lambda: [
            identity(onnx, a=[graph(onnx, identity(onnx, a=graph(onnx, tensors=[each])))])
        ],
        "sparse attribute": lambda: [identity(onnx, a=onnx.SparseTensorProto(values=each))],
    }
    if where == "sparse initializer":
        whole["sparse"] = [onnx.SparseTensorProto(values=tensor(onnx), indices=each)]
    made = helper.make_model(graph(onnx, *nodes.get(where, list)(), **whole))
    if where == "function":
        made.functions.add(name="f").node.append(identity(onnx, a=each))
    elif where == "default of a function":
        made.functions.add(name="f").attribute_proto.append(helper.make_attribute("a", each))
    elif where == "training":
        made.training_info.add().algorithm.initializer.append(each)
    return made.SerializeToString()


@pytest.mark.parametrize(
    "where",
    [
        *("initializer", "sparse initializer", "attribute", "attribute of several", "branch"),
        *("branches in branches", "sparse attribute", "function", "default of a function"),
        "training",
    ],
)
def test_a_tensor_in_another_file_is_found_wherever_it_is(where):
    onnx = pytest.importorskip("onnx")
    entry = onnx.StringStringEntryProto(key="location", value="secret.txt")
    require_self_contained(model(onnx, where, tensor(onnx, data_location=0)), PATH)
    for external in ({"data_location": 1}, {"external_data": [entry]}):
        with pytest.raises(RunError, match=r"^cats\.onnx is not opened: values of its model are"):
            require_self_contained(model(onnx, where, tensor(onnx, **external)), PATH)


def test_all_messages_that_may_hold_tensors_are_looked_into():
    onnx = pytest.importorskip("onnx")
    waiting, known = [onnx.ModelProto.DESCRIPTOR], {}
    while waiting:
        message = waiting.pop()
        parts = {each.number: each.message_type for each in message.fields if each.message_type}
        known[message.name] = {number: part.name for number, part in parts.items()}
        waiting += [part for part in parts.values() if part.name not in known]
    holding = {"TensorProto"}
    while more := {name for name in known if holding & {*known[name].values()}} - holding:
        holding |= more
    expected = {
        name: {number: part for number, part in known[name].items() if part in holding}
        for name in holding
    }
    assert expected == PARTS


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\x05\x0a",  # a graph that ends too early
        b"\x3a\x02\x2a\x05abcde",  # an initializer that ends after its graph
        b"\x3b\x3c",  # a group
        b"\x02\x00",  # a field without a number
        b"\xff" * 11,
        b"\x08\x08\x12\x06ORTM",  # what ONNX Runtime reads in another way
    ],
)
def test_other_files_are_no_onnx(content):
    with pytest.raises(RunError, match=r"^cats\.onnx is no ONNX file"):
        require_self_contained(content, PATH)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
def test_a_model_whose_values_are_in_another_file_reaches_no_engine(engine, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    (tmp_path / "secret.txt").write_bytes(bytes(16))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ENGINES, "get", lambda name: pytest.fail(f"{name} was asked"))
    each = tensor(onnx, data_location=1)
    each.external_data.add(key="location", value="secret.txt")
    path = tmp_path / "cats.onnx"
    path.write_bytes(
        with_spec(model(onnx, "initializer", each), ClassifierSpec(("a", "b"), 4, 4, 1))
    )
    with pytest.raises(RunError, match=r"cats\.onnx is not opened"):
        Classifier(path, engine=engine)
