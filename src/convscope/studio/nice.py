"""NiceGUI, imported when a page is first drawn.

So the files of pages can be imported, and what they compute tested, without the extra.
"""

import importlib
from typing import Any


class _Late:
    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(importlib.import_module(self._module), name)
        except ModuleNotFoundError as error:
            raise AttributeError(f"{name}: {error}") from None


ui: Any = _Late("nicegui.ui")
background: Any = _Late("nicegui.run")
