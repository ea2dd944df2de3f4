"""Errors as other processes raise them."""

import pickle

from convscope.errors import MissingExtraError, TrainingError, UnknownNameError


def test_a_missing_package_gives_the_pip_line():
    assert "pip install 'convscope[train]'" in str(MissingExtraError("onnx", "train"))
    assert str(MissingExtraError("pyarrow", None)).endswith("pip install pyarrow")


def test_any_error_comes_from_another_process_as_it_was():
    for error in (
        UnknownNameError("model", "vgg61", ["vgg16", "vgg19"]),
        MissingExtraError("onnx", "train"),
        TrainingError("the loss is not finite"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
