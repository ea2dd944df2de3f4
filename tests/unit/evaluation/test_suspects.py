"""Labels in doubt, from predictions."""

import numpy as np

from convscope.evaluation.suspects import suspect_labels
from convscope.evaluation.telling import seen_at
from convscope.types import Predictions


def test_the_only_image_of_a_class_is_not_doubted_and_nothing_is_warned_of() -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2])
    probs = np.full((41, 3), 0.05, np.float32)
    probs[np.arange(41), labels] = 0.9
    # One image of class 0 that is surely one of class 1; the only one of class 2, of class 0.
    probs[3], probs[40] = (0.02, 0.97, 0.01), (0.9, 0.05, 0.05)
    ids = np.array([f"{index}.png" for index in range(41)])
    said = Predictions(probs, labels, ids, "val")
    found = [seen_at(said, index, ["a", "b", "c"]) for index in suspect_labels(said)]
    assert [(seen.image_id, seen.answer) for seen in found] == [("3.png", "b")]
