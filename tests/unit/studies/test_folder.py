"""What a stopped study may be continued with."""

from pathlib import Path

import pytest

from convscope.errors import RunError
from convscope.studies.folder import require_same

STATE = Path("study/study.json")

BEGUN = {
    "content": "0123",
    "data_path": "/here/photos",
    "weights": "/here/weights.h5",
    "ways": {"a": {"data_path": "/here/photos", "weights": None, "epochs": 3}},
}


def moved(**changes: object) -> dict[str, object]:
    way = {"data_path": "/there/photos", "weights": "/there/w.h5", "epochs": 3}
    return {**BEGUN, "data_path": "/there/photos", "weights": None, "ways": {"a": way}, **changes}


def test_images_and_weights_may_be_elsewhere_by_now() -> None:
    require_same(STATE, {"asked": BEGUN}, moved(), "study")
    require_same(STATE, {"asked": moved()}, BEGUN, "study")
    require_same(STATE, None, BEGUN, "study")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content": "4567"}, "content '0123', not '4567'"),
        ({"data_path": None}, "data_path '/here/photos', not None"),
        ({"weights": "random"}, "weights '/here/weights.h5', not 'random'"),
        ({"ways": {"a": {"data_path": "/here/photos", "weights": None, "epochs": 4}}}, "ways"),
    ],
)
def test_anything_else_may_not_change(change: dict[str, object], message: str) -> None:
    with pytest.raises(RunError, match=message):
        require_same(STATE, {"asked": BEGUN}, moved(**change), "study")


@pytest.mark.parametrize("state", [{}, {"asked": []}, {"asked": None}])
def test_a_state_without_settings_is_damaged(state: dict[str, object]) -> None:
    with pytest.raises(RunError, match="study.json is damaged; choose another --out"):
        require_same(STATE, state, BEGUN, "study")
