"""An exported model that knows only how bright an image is; no framework made it."""

from pathlib import Path

import numpy as np
from PIL import Image

from convscope.classifier.exported import with_spec
from convscope.classifier.spec import ClassifierSpec

SPEC = ClassifierSpec(("dark", "bright"), 6, 6, 1)


def export(path: Path) -> Path:
    """Write the model, whose probability of "bright" is the mean of the pixels."""
    import onnx

    def node(kind, inputs, output, **attributes):
        return onnx.helper.make_node(kind, inputs, [output], **attributes)

    nodes = [
        node("Cast", ["pixels"], "values", to=onnx.TensorProto.FLOAT),
        node("Flatten", ["values"], "rows", axis=1),
        node("ReduceMean", ["rows"], "mean", axes=[1], keepdims=1),
        node("Div", ["mean", "white"], "bright"),
        node("Sub", ["one", "bright"], "dark"),
        node("Concat", ["dark", "bright"], "probs", axis=1),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "brightness",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["n", 6, 6, 1])],
        [onnx.helper.make_tensor_value_info("probs", onnx.TensorProto.FLOAT, ["n", 2])],
        [
            onnx.numpy_helper.from_array(np.array([value], np.float32), name)
            for name, value in (("white", 255), ("one", 1))
        ],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    path.write_bytes(with_spec(model.SerializeToString(), SPEC))
    return path


def write_images(folder: Path, n_images: int) -> list[Path]:
    """Write images of different brightness, each seventh of which is damaged."""
    folder.mkdir()
    files = [folder / f"{index:05}.png" for index in range(n_images)]
    for index, file in enumerate(files):
        if index % 7 == 6:
            file.write_bytes(b"no image")
        else:
            Image.new("L", (7, 5), index % 256).save(file)
    return files
