"""Section 7: how the page was made, and how to make it again."""

from convscope.report.page import Block, Command, Section, Table, Text
from convscope.studies.tutorial.facts import STYLE_NAMES, Facts, Step, time_of


def section(facts: Facts) -> Section:
    """Return the section: steps and their times, versions, and the command."""
    _ = facts.words.gettext
    blocks: list[Block] = [
        Text(
            _(
                "Everything on this page comes from the runs in the folder {folder}: each has its "
                "settings, the division of the images, metrics and weights. The command below "
                "makes the page again, and resumes what is missing."
            ).format(folder=facts.folder)
        ),
        Command(facts.again),
    ]
    if facts.steps:
        rows = [
            [
                _step_name(facts, step),
                time_of(facts, step.expected_s),
                "" if step.seconds is None else time_of(facts, step.seconds),
            ]
            for step in facts.steps
        ]
        columns = (_("step"), _("expected on two cores"), _("took"))
        blocks.append(Table(columns, rows, _("Steps and their times")))
    if facts.versions:
        blocks.append(Text(facts.versions, small=True))
    return Section(_("How this page was made"), blocks)


def _step_name(facts: Facts, step: Step) -> str:
    """Return the name of a step in the language of the page."""
    _ = facts.words.gettext
    if step.seed is not None:
        style = STYLE_NAMES.get(step.subject, step.subject)
        return _("{style}, seed {seed}").format(style=style, seed=step.seed)
    if step.subject:
        return _("ladder of {name}").format(name=step.subject)
    return _("comparison of the styles")
