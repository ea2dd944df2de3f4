"""Results of a check of a dataset."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from convscope.wording import printable

Severity = Literal["error", "warning", "note"]
_ORDER = ("error", "warning", "note")


@dataclass(frozen=True)
class DataFinding:
    """One fact that the user should know about a dataset.

    Attributes:
        severity: "error" if training refuses the data or a score would be wrong, "warning" if the
            result may suffer, "note" for information.
        kind: Short name that is stable across versions ("unreadable").
        message: Fact, in one line.
        remedy: Advice, in one sentence.
        files: All files (or folders, or image ids) concerned.
        groups: Files that belong together, for duplicates.
        ways: Orientation of each file of each group relative to the first ("mirrored", "turned by
            180 degrees"), for near duplicates; "" for the same orientation.
        details: Reasons for unreadable files; one line each, beginning with the name.
        settings: Settings by dotted name with which a training keeps clear of it.
    """

    severity: Severity
    kind: str
    message: str
    remedy: str
    files: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    ways: tuple[tuple[str, ...], ...] = ()
    details: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckReport:
    """Result of a check of a dataset.

    Attributes:
        source: Folder, or name of the dataset.
        n_images: Number of checked images, including unreadable ones.
        counts: Number of readable images, by part and class.
        findings: Errors first, then warnings, then notes.
    """

    source: str
    n_images: int
    counts: dict[str, dict[str, int]]
    findings: tuple[DataFinding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether the data should not be trained on as it is."""
        return any(finding.severity == "error" for finding in self.findings)

    def summary(self) -> str:
        """Return one line with the number of images and of findings by severity.

        Examples:
            >>> CheckReport("pets", 1200, {}, ()).summary()
            'pets: 1,200 images, nothing found'
        """
        found = [
            f"{count} {severity}{'s' if count > 1 else ''}"
            for severity in _ORDER
            if (count := sum(finding.severity == severity for finding in self.findings))
        ]
        return f"{self.source}: {self.n_images:,} images, {', '.join(found) or 'nothing found'}"

    def rows(self, n_files: int = 3) -> list[tuple[str, str, str, str, str]]:
        """Return a table row for each finding.

        Args:
            n_files: Number of files, or of groups and of files of each, to name; the others are
                counted.

        Returns:
            Severity, kind, message, files (one per line, with the reason if they cannot be read;
            those that belong together joined by " = ", with their orientation), remedy.
        """
        rows: list[tuple[str, str, str, str, str]] = []
        for finding in self.findings:
            groups = [
                _first(
                    [
                        f"{name} ({way})" if way else name
                        for name, way in itertools.zip_longest(group, ways, fillvalue="")
                    ],
                    n_files,
                    " = ",
                )
                for group, ways in itertools.zip_longest(finding.groups, finding.ways, fillvalue=())
            ]
            shown = _first(groups or finding.details or finding.files, n_files, "\n")
            rows.append(
                (
                    finding.severity,
                    finding.kind,
                    finding.message,
                    shown,
                    finding.remedy,
                )
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything, including all files, as values that JSON can express."""
        return {"has_errors": self.has_errors, **asdict(self)}

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def _first(names: Sequence[str], n_named: int, between: str) -> str:
    """Return the first names, and how many more there are."""
    listed = between.join(names[:n_named])
    if len(names) <= n_named:
        return listed
    end = "\n" if between == "\n" else " "
    return f"{listed}{end}and {len(names) - n_named:,} more"


def report_of(
    source: str,
    n_images: int,
    counts: Mapping[str, Mapping[str, int]],
    findings: Iterable[DataFinding],
) -> CheckReport:
    """Return a report with its findings ordered by severity."""
    in_order = sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
    # Names of folders go into JSON too, and need not be UTF-8.
    plain = {
        part: {printable(name): count for name, count in classes.items()}
        for part, classes in counts.items()
    }
    return CheckReport(printable(source), n_images, plain, tuple(in_order))
