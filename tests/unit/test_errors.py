"""Errors as other processes raise them."""

import pickle

from convscope.errors import MissingExtraError, TrainingError, UnknownNameError


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
