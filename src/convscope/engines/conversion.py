"""Conversion of a function of TensorFlow to ONNX."""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from convscope.engines import INPUT
from convscope.errors import FailureError, MissingExtraError
from convscope.wording import first_line

PACKAGES = ("onnx", "tf2onnx")
"""Packages that it needs, beside TensorFlow."""

OPSET = 18
"""Version of ONNX's operators: the newest that tf2onnx 1.17 writes."""

_LARGEST = 2**31 - 1
"""Largest protocol buffer, in bytes."""


def to_onnx(function: Any, *, simplified: bool = True) -> bytes:
    """Return a function as an ONNX file.

    Args:
        function: `tf.function` with an input signature, which returns a dictionary of tensors.
        simplified: Whether tf2onnx simplifies the graph. That takes three quarters of the time of
            a large network, and ONNX Runtime, which does the same itself, is as fast without.

    Raises:
        MissingExtraError: If tf2onnx is not installed.
        FailureError: If an operation has no counterpart in ONNX, or the file would be over 2 GB.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")
    from convscope.models.keras_private import graphs_as_they_are, prepare_tf2onnx

    # It also logs what it cannot convert, and returns a file that no engine loads.
    heard = _Heard()
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tf2onnx.tfonnx")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare_tf2onnx()
        import tf2onnx

        for logger in loggers:
            logger.addHandler(heard)
        try:
            with (
                _shapes_of_branches(tf2onnx.tf_loader),
                contextlib.nullcontext() if simplified else graphs_as_they_are(),
            ):
                model, _ = tf2onnx.convert.from_function(
                    function, input_signature=function.input_signature, opset=OPSET
                )
        except Exception as error:  # any exception of its rewriters
            reason = heard.reason or first_line(error)
            raise FailureError(f"this network cannot be converted to ONNX: {reason}") from error
        finally:
            for logger in loggers:
                logger.removeHandler(heard)
    if heard.reason:
        raise FailureError(f"this network cannot be converted to ONNX: {heard.reason}")
    others = [each.name for each in model.graph.input if each.name != INPUT]
    if others:
        raise FailureError(
            "this network cannot be converted to ONNX: its layers hold values that are no weights: "
            f"{', '.join(sorted({name.split('/')[0] for name in others}))}"
        )
    if model.ByteSize() > _LARGEST:
        raise FailureError("this network is over 2 GB, which is more than one ONNX file can hold")
    content: bytes = model.SerializeToString()
    return content


@contextlib.contextmanager
def _shapes_of_branches(loader: Any) -> Iterator[None]:
    """Let tf2onnx know the shapes of what a branch of a condition takes from outside.

    tf2onnx 1.17 counts the condition itself as the first of them, which shifts the shapes by one,
    and TensorFlow prefers those that it notes in the branch, where a weight has none. Without them
    no convolution in a branch can be converted.

    Args:
        loader: Module `tf2onnx.tf_loader`.
    """
    listed, as_graph = loader.tflist_to_onnx, loader.function_def_to_graph

    def tflist_to_onnx(graph: Any, *args: Any, **settings: Any) -> Any:
        found = listed(graph, *args, **settings)
        shapes_by_function = found[-1]
        for node in graph.get_operations():
            if node.type in ("If", "StatelessIf"):
                shapes = [each.get_shape() for each in node.inputs][1:]
                for branch in ("then_branch", "else_branch"):
                    shapes_by_function[node.get_attr(branch).name] = shapes
        return found

    def function_def_to_graph(definition: Any, input_shapes: Any = None) -> Any:
        if input_shapes:
            for each in definition.arg_attr.values():
                each.attr.pop("_output_shapes", None)
        return as_graph(definition, input_shapes=input_shapes)

    loader.tflist_to_onnx, loader.function_def_to_graph = tflist_to_onnx, function_def_to_graph
    try:
        yield
    finally:
        loader.tflist_to_onnx, loader.function_def_to_graph = listed, as_graph


class _Heard(logging.Handler):
    """The first line that tf2onnx logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.reason = self.reason or record.getMessage().strip().split("\n")[0][:300]
