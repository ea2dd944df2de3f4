"""Traps on the way to a good classifier: one file each.

A trap is a function that looks at a `Case` and returns a `Finding`, or None if there is nothing of
the kind. What it cannot know raises `Unknown`; `diagnose` says which traps were not looked for.
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


class Unknown(Exception):  # noqa: N818 - it is no error: there is something that a case lacks
    """Something that a trap would have to know is not to be had; the message says what."""


@dataclass(frozen=True)
class Remedy:
    """What mends it.

    Attributes:
        words: In a few words, as an instruction.
        command: A command line.
        settings: What it changes in a new training, by dotted names; empty for other commands.
    """

    words: str
    command: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A trap that was stepped into.

    Attributes:
        symptom: What is wrong, in a sentence.
        evidence: What shows it, with numbers taken from the run or the data.
        remedies: What to do, the best first.
        sure: "certain" (it is so), "likely", "possible" (worth a look), or "note" (nothing is
            wrong, but it should be known).
    """

    symptom: str
    evidence: str
    remedies: tuple[Remedy, ...]
    sure: Sureness


@dataclass(frozen=True)
class Diagnosis:
    """What was found, and what was looked for.

    Attributes:
        findings: By the name of the trap, the surest first.
        quiet: Traps that were looked for and not found.
        unknown: Traps that could not be looked for, and what was missing.
        together: The command that trains anew with the first remedy of every certain finding;
            empty if there are fewer than two such. What is less sure may follow from those.
    """

    findings: Mapping[str, Finding]
    quiet: tuple[str, ...]
    unknown: Mapping[str, str]
    together: str

    @property
    def alarms(self) -> list[str]:
        """The traps that were found, notes left out."""
        return [name for name, finding in self.findings.items() if finding.sure != "note"]


TRAPS: Registry[Callable[["Case"], Finding | None]] = Registry(
    "trap", "convscope.diagnosis", group="convscope.traps"
)
"""The first line of a trap's docstring says what it looks for."""


def diagnose(case: "Case") -> Diagnosis:
    """Look for every trap."""
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
    by_sureness = sorted(findings, key=lambda name: _ORDER.index(findings[name].sure))
    found = {name: findings[name] for name in by_sureness}
    changes = [f.remedies[0].settings for f in found.values() if f.remedies and f.sure == "certain"]
    changes = [change for change in changes if change]
    together = ""
    if len(changes) > 1:
        merged = {key: value for change in changes for key, value in change.items()}
        together = case.again("all together", merged).command
    return Diagnosis(found, tuple(quiet), unknown, together)
