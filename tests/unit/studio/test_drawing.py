"""Curves over each other, and the names of axes; needs no NiceGUI."""

import re

from convscope.studio.drawing import N_COLOURS, Curve, chart

POINTS = [(1.0, 0.5), (2.0, 0.7)]


def drawn(curves, **how):
    return chart(curves, about="about", x="epoch", y="accuracy", **how)


def test_of_equal_curves_each_is_seen():
    text = drawn([Curve(f"run {place}", POINTS, place) for place in range(4)])
    widths = [float(width) for width in re.findall("stroke-width:([0-9.]+)", text)]
    assert len(widths) == 4
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) == 4


def test_no_two_curves_of_many_look_alike():
    text = drawn([Curve(f"run {place}", POINTS, place) for place in range(2 * N_COLOURS)])
    looks = re.findall('class="(cs-c[0-9]+)".*?stroke-dasharray:([0-9 ]+)', text)
    assert len(set(looks)) == len(looks) == 2 * N_COLOURS


def test_training_is_dashed_beside_validation_and_as_thick():
    text = drawn([Curve("validation", POINTS), Curve("training", POINTS, 1, dashed=True)])
    assert re.findall("stroke-width:([^;]*);stroke-dasharray:([0-9 ]*)", text) == [
        ("2", "14 0"),
        ("2", "5 4"),
    ]


def test_a_square_chart_names_both_of_its_axes():
    texts = re.findall("<text [^>]*>([^<]*)</text>", drawn([Curve("a", POINTS)], square=True))
    assert texts[-2:] == ["epoch", "accuracy"]
