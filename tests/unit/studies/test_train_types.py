"""What type checkers are told of `train`."""

import inspect
import typing

from convscope.studies import train as module


def test_type_checkers_know_every_argument():
    of_them = {"model", "folds", "resume", *module._Others.__annotations__}
    arguments = inspect.signature(module.train).parameters
    assert of_them == set(arguments)
    for name, kind in module._Others.__annotations__.items():
        assert arguments[name].annotation == kind
    returned = [
        inspect.signature(each).return_annotation for each in typing.get_overloads(module.train)
    ]
    assert returned[:2] == [module.Run, module.CrossValidation]
