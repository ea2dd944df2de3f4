"""Train, compare, explain and ship convolutional image classifiers.

The verbs of the command line, as functions with the same words:

    import convscope

    run = convscope.train("cnn-functional", data="cifar10", recipe="tutorial", seed=83)
    run.metrics["test"]["accuracy"]

Names are loaded when they are first used, so importing convscope costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "ConvscopeError",
    "Dataset",
    "Ladder",
    "Progress",
    "Run",
    "check",
    "compare",
    "compare_runs",
    "describe",
    "doctor",
    "evaluate",
    "explain",
    "gallery",
    "ladder",
    "load",
    "predict",
    "report",
    "robustness",
    "suspects",
    "train",
]

if TYPE_CHECKING:
    from convscope.api import (
        Comparison,
        Ladder,
        check,
        compare,
        compare_runs,
        describe,
        doctor,
        evaluate,
        explain,
        gallery,
        ladder,
        load,
        predict,
        report,
        robustness,
        suspects,
        train,
    )
    from convscope.errors import ConvscopeError
    from convscope.progress import Progress
    from convscope.run import Run
    from convscope.types import Dataset

_HOMES = {
    "ConvscopeError": "errors",
    "Dataset": "types",
    "Progress": "progress",
    "Run": "run",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'convscope' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"convscope.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
