"""`convscope compare`: what it refuses before anything is trained."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "say what to compare"),
        (("runs/one",), "say what to compare"),
        (("digits", "--vary", "label_smoothing=0.1"), "--vary label_smoothing=0.1: name values"),
        (("digits", "--vary", "label_smoothing"), "--vary label_smoothing: name values"),
        (("digits", "more", "--vary", "label_smoothing=0,0.1"), "'more': with --models"),
        (("digits", "--models", "cnn-functional", "--seeds", ""), "--seeds: say how many"),
    ],
)
def test_what_is_no_comparison_is_refused_in_a_line(fails, tmp_path, arguments, says):
    assert says in fails(2, "compare", *arguments)
    assert not list(tmp_path.iterdir())
