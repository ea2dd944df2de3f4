"""Traps on the way to a good classifier: one file each.

A trap is a function of a `Case` that returns a `Finding`, or None if there is nothing to report. If
a fact is missing it raises `Unknown`; `diagnose` reports which traps could not be checked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from convscope.errors import ConvscopeError
from convscope.registry import Registry

if TYPE_CHECKING:
    from convscope.diagnosis.case import Case

Sureness = Literal["certain", "likely", "possible", "note"]

_ORDER: tuple[Sureness, ...] = ("certain", "likely", "possible", "note")

AT_CHANCE = "at-chance"
"""Trap whose finding comes first of its sureness: of a network that guesses, the others are
consequences."""


class Unknown(Exception):  # noqa: N818 - not an error: the case lacks a fact
    """A fact that a trap needs is not available; the message names it."""


@dataclass(frozen=True)
class Remedy:
    """Advice that fixes a finding.

    Attributes:
        words: Short instruction.
        command: Command line.
        settings: Changed settings for a new training, by dotted names; empty for other commands.
    """

    words: str
    command: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A trap that this run has fallen into.

    Attributes:
        symptom: One sentence on what is wrong.
        evidence: Numbers from the run or the data that show it.
        remedies: Advice, the best first.
        sure: "certain", "likely", "possible" (worth a look), or "note" (nothing is wrong, but worth
            knowing).
    """

    symptom: str
    evidence: str
    remedies: tuple[Remedy, ...]
    sure: Sureness


@dataclass(frozen=True)
class Diagnosis:
    """Findings of all traps, and the traps that were checked.

    Attributes:
        findings: Findings by name of the trap, the most certain first.
        quiet: Names of traps that were checked without a finding.
        unknown: Traps that could not be checked, with the missing fact.
        together: Command that trains again with the first remedy of every certain finding; empty if
            there are fewer than two. Less certain findings may be consequences of those.
    """

    findings: Mapping[str, Finding]
    quiet: tuple[str, ...]
    unknown: Mapping[str, str]
    together: str

    @property
    def alarms(self) -> list[str]:
        """Findings except notes."""
        return [name for name, finding in self.findings.items() if finding.sure != "note"]


TRAPS: Registry[Callable[["Case"], Finding | None]] = Registry(
    "trap", "convscope.diagnosis", group="convscope.traps"
)
"""Registered traps; the first line of the docstring says what a trap looks for."""


def diagnose(case: "Case") -> Diagnosis:
    """Check every trap."""
    findings: dict[str, Finding] = {}
    quiet, unknown = [], {}
    for entry in TRAPS.entries():
        try:
            finding = entry.value(case)
        except (Unknown, ConvscopeError) as reason:
            unknown[entry.name] = str(reason)
            continue
        if finding is None:
            quiet.append(entry.name)
        else:
            findings[entry.name] = finding
    by_sureness = sorted(
        findings, key=lambda name: (_ORDER.index(findings[name].sure), name != AT_CHANCE)
    )
    found = {name: findings[name] for name in by_sureness}
    changes = [f.remedies[0].settings for f in found.values() if f.remedies and f.sure == "certain"]
    changes = [change for change in changes if change]
    together = ""
    if len(changes) > 1:
        merged = {key: value for change in changes for key, value in change.items()}
        together = case.again("all together", merged).command
    return Diagnosis(found, tuple(quiet), unknown, together)
