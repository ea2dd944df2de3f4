"""What the page of a run says of the hardest images."""

from convscope.api.report import worst_error
from convscope.evaluation.telling import Seen


def test_the_worst_error_is_the_hardest_image_with_a_wrong_answer():
    right, wrong, next_wrong = (
        Seen("1.png", "owl", "owl", 0.3, 0.3),
        Seen("2.png", "cat", "dog", 0.654, 0.32),
        Seen("3.png", "dog", "owl", 0.6, 0.35),
    )
    assert worst_error([right, wrong, next_wrong]) == (
        "The worst error is a cat, predicted as dog with 65% confidence."
    )
    assert worst_error([right]) == "The answers to the hardest images are all correct."


def test_of_several_classes_a_right_answer_is_not_the_worst():
    right = Seen("1.png", "cat and dog", "cat and dog", 0.4, 0.6, multi_label=True)
    wrong = Seen("2.png", "cat", "cat and owl", 0.7, 0.3, multi_label=True)
    assert worst_error([right, wrong]) == "The worst answer: cat and owl, for an image of cat."
    assert worst_error([right]) == "The answers to the hardest images are all correct."
