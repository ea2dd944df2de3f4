"""Lets the files of this folder import those beside them whose assertions are theirs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("accessible", "killing", "ray_cluster")
