"""Section 6: the tutorial's conclusions, and what was found."""

from convscope.report.page import Block, Box, Command, Points, Section, Text
from convscope.studies.tutorial.facts import BACKBONE_NAMES, Facts, percent
from convscope.studies.tutorial.sections.comparison import equal
from convscope.studies.tutorial.sections.transfer import best_rung, largest_step, tutorials_way


def section(facts: Facts) -> Section:
    """Return the section: each conclusion of the tutorial with the evidence from this folder."""
    _ = facts.words.gettext
    found = [
        (
            _("“The three styles differ in the writing only, so results and curves are similar.”"),
            _styles(facts),
        ),
        (
            _("“A simple convolutional network seems no better than a multilayer perceptron.”"),
            _(
                "The tutorial trains no perceptron, so this was not measured there, and it is not "
                "here."
            ),
        ),
        (
            _("“VGG16 does well, the other two badly: each task has its fitting backbone.”"),
            _backbones(facts),
        ),
        (
            _("“A pretrained network alone does not ensure a high accuracy; it needs tuning.”"),
            _(
                "True, and the tuning has names: pixels scaled as in the pretraining, images large "
                "enough for the backbone's last map, a head that fits, and last of all "
                "fine-tuning."
            ),
        ),
    ]
    blocks: list[Block] = [
        Text(_("Each conclusion of the tutorial, and what the runs of this page show of it:")),
        Points(found),
        Box(
            _("What to try next"),
            (
                Text(_("Ask what is wrong with a run; the answer names the command that helps.")),
                Command(_doctor(facts)),
            ),
        ),
    ]
    return Section(_("What the tutorial concluded, and what was found"), blocks)


def _doctor(facts: Facts) -> str:
    from convscope.wording import command_line

    run = facts.first_run
    return command_line("doctor", run.path if run is not None else "RUN")


def _styles(facts: Facts) -> str:
    _ = facts.words.gettext
    if facts.comparison is None:
        return _("Not trained here yet.")
    if equal(facts):
        return _(
            "More than that: from the same seed they are one network, correct on the very same "
            "images. The tutorial's accuracies, 70.2 %, 70.1 % and 71.0 %, differ by chance."
        )
    return _("The verdicts of the comparison above say what the runs here show.")


def _backbones(facts: Facts) -> str:
    _ = facts.words.gettext
    said = []
    for name, ladder in facts.ladders.items():
        first, best, step = tutorials_way(ladder), best_rung(ladder), largest_step(facts, ladder)
        if first is None or best is None or best.test_accuracy is None or step is None:
            continue
        said.append(
            _("{name}: {first} as in the tutorial, {best} at best, mostly by “{cause}”.").format(
                name=BACKBONE_NAMES.get(name, name),
                first=percent(first),
                best=percent(best.test_accuracy),
                cause=step[0],
            )
        )
    if not said:
        return _("Not trained here yet.")
    return " ".join([_("Not the task but the way of use makes the difference."), *said])
