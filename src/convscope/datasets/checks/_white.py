"""Findings on deep images whose files do not state which value is white."""

from collections.abc import Mapping

from convscope.datasets.checks.findings import DataFinding
from convscope.images.deep import choose_white
from convscope.wording import printable


def on_white(peaks: Mapping[str, float], white: int | None) -> list[DataFinding]:
    """Return findings on images that do not state which value is white.

    Args:
        peaks: Largest value by file name.
        white: Value assumed to be white in all of them; None if there are none.
    """
    if white is None:
        return []
    dark = [name for name, peak in peaks.items() if (choose_white([peak]) or white) < white]
    findings = [
        DataFinding(
            "note",
            "white",
            f"floating-point or 32-bit images, in which white is assumed to be {white}, since "
            f"their files do not state it: {len(peaks):,}",
            "Check that they do not look too dark; scale them so that white is 1, 255 or 65535.",
            tuple(map(printable, peaks)),
        )
    ]
    if dark:
        findings.append(
            DataFinding(
                "warning",
                "white-differs",
                f"images that stay far below the white of the others, {white}, and become nearly "
                f"black: {len(dark):,} of {len(peaks):,}",
                "Bring all images to one scale, unless these are really dark.",
                tuple(map(printable, dark)),
            )
        )
    return findings
