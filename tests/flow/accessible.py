"""Pages examined for people who use them without a mouse or without seeing them.

By axe-core, which is not part of this repository: CONVSCOPE_AXE names its script, or it is in
`node_modules` of the current folder (npm install --no-save axe-core). Without it nothing is done.
"""

import os
from pathlib import Path
from typing import Any

_FOUND = """() => axe.run(document, { resultTypes: ["violations"], iframes: false }).then(
    (found) => found.violations
        .filter((each) => ["serious", "critical"].includes(each.impact))
        .map(({ id, nodes }) => [id, nodes.length, nodes[0].html, nodes[0].failureSummary]))"""


def axe() -> str | None:
    """Return the script of axe-core; None if it is not there."""
    named = os.environ.get("CONVSCOPE_AXE")
    path = Path(named) if named else Path("node_modules/axe-core/axe.min.js")
    return path.read_text("utf-8") if named or path.is_file() else None


def require_accessible(page: Any, *where: object) -> None:
    """Require that a page has no serious or critical fault.

    Args:
        page: Page of Playwright.
        where: What is shown, for the message.
    """
    script = axe()
    if script is not None:
        page.evaluate(script)
        assert page.evaluate(_FOUND) == [], where
