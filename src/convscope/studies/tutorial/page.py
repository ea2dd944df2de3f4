"""The page of the tutorial: its sections in order, under a headline."""

from convscope.report.page import Page, Section
from convscope.studies.ladder.rungs import chance
from convscope.studies.tutorial import published
from convscope.studies.tutorial.facts import BACKBONE_NAMES, Facts, percent
from convscope.studies.tutorial.sections import (
    comparison,
    conclusion,
    convolution,
    data,
    making,
    styles,
    transfer,
)


def sections(facts: Facts) -> list[Section]:
    """Return the sections in the order of the tutorial."""
    return [
        data.section(facts),
        convolution.section(facts),
        styles.section(facts),
        comparison.section(facts),
        transfer.section(facts),
        conclusion.section(facts),
    ]


def tutorial_page(facts: Facts) -> Page:
    """Return the page, with what has been trained so far."""
    _ = facts.words.gettext
    numbered = [*sections(facts), making.section(facts)]
    return Page(
        title=_("Convolutional neural networks: a tutorial, run again"),
        about=_about(facts),
        verdict=_headline(facts),
        caution=_caution(facts),
        sections=[
            Section(f"{number}. {each.heading}", each.blocks)
            for number, each in enumerate(numbered, 1)
        ],
        language=facts.words.language,
        contents=_("Contents"),
        footer=_("Made by convscope {version} on {date}."),
    )


def _about(facts: Facts) -> str:
    _ = facts.words.gettext
    n_images = sum(facts.data.n_images.values())
    return _("{name}, {n} images of {n_classes} classes").format(
        name=facts.data.name, n=f"{n_images:,}", n_classes=len(facts.data.class_names)
    )


def _headline(facts: Facts) -> str:
    _ = facts.words.gettext
    said = []
    if facts.comparison is not None:
        run = facts.first_run
        reached = run.test_accuracy if run is not None else None
        if comparison.equal(facts) and reached is not None:
            said.append(
                _("Three styles, one network: {accuracy} on test images.").format(
                    accuracy=percent(reached)
                )
            )
    gains = []
    for name, ladder in facts.ladders.items():
        first, best = transfer.tutorials_way(ladder), transfer.best_rung(ladder)
        reached = None if best is None else best.test_accuracy
        if first is None or reached is None:
            continue
        # Less may be chance.
        if reached - first > chance(first, reached, facts.data.n_images["test"]):
            gains.append((reached - first, name, first, reached))
    if gains:
        _gain, name, first, reached = max(gains)
        said.append(
            _("{name} goes from {first} to {best}, once it is used as it was trained.").format(
                name=BACKBONE_NAMES.get(name, name), first=percent(first), best=percent(reached)
            )
        )
    if said:
        return " ".join(said)
    if facts.comparison is None:
        return _("The tutorial is being trained; this page shows what is there.")
    return _("All is trained; each section says what it shows.")


def _caution(facts: Facts) -> str:
    _ = facts.words.gettext
    said = []
    if facts.plan.quick:
        said.append(
            _(
                "A quick look: {n} of {whole} images, {epochs} epochs of the small network instead "
                "of 20, fewer steps of the ladders. The whole tutorial reaches more; run it "
                "without --quick."
            ).format(
                n=f"{sum(facts.data.n_images.values()):,}",
                whole=f"{facts.data.n_whole:,}",
                epochs=facts.epochs,
            )
        )
    if not (facts.data.registered and facts.data.name == published.DATA):
        said.append(
            _("The tutorial's own figures are of CIFAR-10, and cannot be compared with these.")
        )
    return " ".join(said)
