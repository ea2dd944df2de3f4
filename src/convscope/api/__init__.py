"""The verbs, in the words of the command line.

Each puts the stages together and does no work of its own. Keras is imported only where a model is.
"""

from convscope.api.climbing import ladder
from convscope.api.comparing import compare, compare_runs
from convscope.api.corrupting import Robustness, robustness
from convscope.api.data import check, load
from convscope.api.diagnosing import doctor
from convscope.api.explaining import explain
from convscope.api.judging import evaluate, predict
from convscope.api.looking import Seen, gallery
from convscope.api.models import build_model, describe, input_spec, run_config
from convscope.api.reporting import report
from convscope.api.suspecting import Suspicions, suspects
from convscope.api.training import train
from convscope.diagnosis import Diagnosis
from convscope.report.comparison import Comparison
from convscope.report.explanation_page import Explanation
from convscope.report.rungs import Ladder

__all__ = [
    "Comparison",
    "Diagnosis",
    "Explanation",
    "Ladder",
    "Robustness",
    "Seen",
    "Suspicions",
    "build_model",
    "check",
    "compare",
    "compare_runs",
    "describe",
    "doctor",
    "evaluate",
    "explain",
    "gallery",
    "input_spec",
    "ladder",
    "load",
    "predict",
    "report",
    "robustness",
    "run_config",
    "suspects",
    "train",
]
