"""Train, compare, explain and ship convolutional image classifiers.

The verbs of the command line, as functions with the same words:

    import convscope

    run = convscope.train("cnn-functional", data="cifar10", recipe="tutorial", seed=83)
    run.metrics["test"]["accuracy"]

Names are loaded when they are first used, so importing convscope costs next to nothing.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Comparison",
    "ConvscopeError",
    "CrossValidation",
    "Dataset",
    "Ladder",
    "Progress",
    "Run",
    "Tuning",
    "Tutorial",
    "check",
    "compare",
    "compare_runs",
    "describe",
    "doctor",
    "embed",
    "evaluate",
    "evaluate_on",
    "explain",
    "export",
    "gallery",
    "ladder",
    "learning_curve",
    "load",
    "on_ray",
    "predict",
    "report",
    "robustness",
    "serve",
    "similar",
    "studio",
    "suspects",
    "train",
    "tune",
    "tutorial",
    "write_shards",
]

if TYPE_CHECKING:
    from convscope import errors as errors
    from convscope import serving as serving
    from convscope.api.data import check, load, write_shards
    from convscope.api.doctor import doctor
    from convscope.api.embed import embed
    from convscope.api.evaluate import evaluate
    from convscope.api.evaluate_on import evaluate_on
    from convscope.api.explain import explain
    from convscope.api.export import export
    from convscope.api.gallery import gallery
    from convscope.api.models import describe
    from convscope.api.predict import predict
    from convscope.api.report import report
    from convscope.api.robustness import robustness
    from convscope.api.similar import similar
    from convscope.classifier.exported import Classifier
    from convscope.errors import ConvscopeError
    from convscope.progress import Progress
    from convscope.run import Run
    from convscope.serving.server import serve
    from convscope.studies.comparison.comparison import Comparison
    from convscope.studies.comparison.study import compare, compare_runs
    from convscope.studies.folds import CrossValidation
    from convscope.studies.ladder.rungs import Ladder
    from convscope.studies.ladder.study import ladder
    from convscope.studies.learning_curve import learning_curve
    from convscope.studies.on_ray import on_ray
    from convscope.studies.suspects import suspects
    from convscope.studies.train import train
    from convscope.studies.tuning.study import tune
    from convscope.studies.tuning.tuning import Tuning
    from convscope.studies.tutorial.study import Tutorial, tutorial
    from convscope.studio.server import studio
    from convscope.types import Dataset

_HOMES = {
    "Classifier": "classifier.exported",
    "Comparison": "studies.comparison.comparison",
    "ConvscopeError": "errors",
    "CrossValidation": "studies.folds",
    "Dataset": "types",
    "Ladder": "studies.ladder.rungs",
    "Progress": "progress",
    "Run": "run",
    "Tuning": "studies.tuning.tuning",
    "Tutorial": "studies.tutorial.study",
    "check": "api.data",
    "compare": "studies.comparison.study",
    "compare_runs": "studies.comparison.study",
    "describe": "api.models",
    "doctor": "api.doctor",
    "embed": "api.embed",
    "evaluate": "api.evaluate",
    "evaluate_on": "api.evaluate_on",
    "explain": "api.explain",
    "export": "api.export",
    "gallery": "api.gallery",
    "ladder": "studies.ladder.study",
    "learning_curve": "studies.learning_curve",
    "load": "api.data",
    "on_ray": "studies.on_ray",
    "predict": "api.predict",
    "report": "api.report",
    "robustness": "api.robustness",
    "serve": "serving.server",
    "similar": "api.similar",
    "studio": "studio.server",
    "suspects": "studies.suspects",
    "train": "studies.train",
    "tune": "studies.tuning.study",
    "tutorial": "studies.tutorial.study",
    "write_shards": "api.data",
}


_MODULES = ("errors", "serving")
"""Modules with public names of their own."""


if not TYPE_CHECKING:  # or checkers of types would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name not in __all__ and name not in _MODULES:
            raise AttributeError(f"module 'convscope' has no attribute '{name}'")
        import importlib

        if name in _MODULES:
            return importlib.import_module(f"convscope.{name}")
        return getattr(importlib.import_module(f"convscope.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *_MODULES, "__version__"]


class _Package(ModuleType):
    """This package, in which a verb remains visible beside a folder of the same name.

    Python adds an imported folder, such as `convscope.explain`, to the attributes of its package,
    where it would hide the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
