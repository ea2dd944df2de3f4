"""Cross-validation: what one was begun with."""

from pathlib import Path
from typing import Any

import pytest

from convscope.errors import RunError
from convscope.recipe import RunConfig, flat, resolve
from convscope.studies.folder import as_read_back
from convscope.studies.folds import CROSS_VALIDATION, asked_before

CONFIG = resolve(RunConfig(), {"split.folds": 4, "epochs": 3})
ASKED: dict[str, Any] = as_read_back(flat(CONFIG.model_dump()))


def test_one_that_was_begun_before_there_was_a_setting_has_it_at_its_default(
    tmp_path: Path,
) -> None:
    older = {key: value for key, value in ASKED.items() if not key.startswith("augment.")}
    CROSS_VALIDATION.write(tmp_path, {"asked": older})
    assert asked_before(tmp_path) == CONFIG


@pytest.mark.parametrize(
    "asked", [None, [], {}, {**ASKED, "split.folds": None}, {"split.folds": 4, "epochs": -1}]
)
def test_a_damaged_state_is_said(asked: Any, tmp_path: Path) -> None:
    CROSS_VALIDATION.write(tmp_path, {"asked": asked})
    with pytest.raises(RunError, match="is damaged; choose another --out"):
        asked_before(tmp_path)
