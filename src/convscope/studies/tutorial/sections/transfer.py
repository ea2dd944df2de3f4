"""Section 5: transfer learning, as the tutorial did it and done right."""

from collections.abc import Sequence

from convscope.evaluation.metrics import wilson
from convscope.report.page import (
    Bar,
    Bars,
    Beside,
    Block,
    Box,
    Code,
    Command,
    Heading,
    Section,
    Table,
    Text,
)
from convscope.studies.ladder.rungs import Ladder, Rung, accuracy_of, steps_to
from convscope.studies.tutorial import published
from convscope.studies.tutorial.code import transfer, transfer_ours
from convscope.studies.tutorial.facts import BACKBONE_NAMES, Facts, percent
from convscope.studies.tutorial.plan import AT_HAND, BackbonePlan


def section(facts: Facts) -> Section:
    """Return the section: each backbone on its ladder, from the tutorial's way to a good one."""
    _ = facts.words.gettext
    blocks: list[Block] = [
        Text(
            _(
                "A backbone is a network that has learnt ImageNet, without its classifier. It is "
                "frozen, and a new head learns the classes of this data from its features. The "
                "tutorial shows three of them images of 32 pixels with values from 0 to 1."
            )
        ),
        Text(
            _(
                "Each ladder below begins there and changes one thing at a time: first the scaling "
                "of the pixels, to that of the pretraining; then the size of the image; then the "
                "head; last, some layers of the backbone learn too."
            )
        ),
    ]
    for number, planned in enumerate(facts.plan.backbones):
        blocks += _backbone(facts, planned, first=number == 0)
    if AT_HAND in facts.ladders:
        blocks += [
            Heading(BACKBONE_NAMES[AT_HAND]),
            Text(
                _(
                    "None of the tutorial's backbones has weights here, so a fourth climbs the "
                    "ladder: its weights are installed together with convscope."
                )
            ),
            *_climbed(facts, AT_HAND),
        ]
    if facts.done:
        blocks.append(_overview(facts))
    first = facts.plan.backbones[0].name
    shown = next((name for name in facts.ladders if name != first), AT_HAND)
    blocks.append(
        Box(
            _("What to try next"),
            (
                Text(
                    _(
                        "Train the best classifier of your own photos in five minutes, or climb "
                        "the ladder with another backbone."
                    )
                ),
                Command("convscope train --data photos/ --minutes 5"),
                Command(facts.command("ladder", shown, "--sizes", "64,96,160")),
                Command(facts.command("train", "--model", shown, "--recipe", "finetune")),
            ),
        )
    )
    return Section(_("Transfer learning"), blocks)


def tutorials_way(ladder: Ladder) -> float | None:
    """Return the test accuracy of the rung that does as the tutorial did."""
    return ladder.rungs[0].test_accuracy


def best_rung(ladder: Ladder) -> Rung | None:
    """Return the rung of the highest validation accuracy."""
    trained = [rung for rung in ladder.rungs if rung.val_accuracy is not None]
    return max(trained, key=accuracy_of) if trained else None


def rung_name(facts: Facts, rung: Rung) -> str:
    """Return the name of a rung in the language of the page."""
    _ = facts.words.gettext
    known = {
        "start": _("as the tutorial"),
        "scaling": _("own scaling"),
        "size": _("{n} px").format(n=rung.image_size),
        "standardise": _("standardised features"),
        "head": _("better head"),
    }
    one = rung.name.startswith("last stage ")
    tuned = _("last stage fine-tuned") if one else _("last stages fine-tuned")
    return known.get(rung.kind, tuned)


def largest_step(facts: Facts, ladder: Ladder) -> tuple[str, float] | None:
    """Return the change that gained most, and its gain in accuracy; larger images are one."""
    _ = facts.words.gettext
    best = best_rung(ladder)
    if best is None:
        return None
    changed, gain = max(steps_to(best, ladder.rungs), key=lambda step: step[1], default=([], 0.0))
    if gain <= 0:
        return None
    causes = (
        _("larger images") if rung.kind == "size" else rung_name(facts, rung) for rung in changed
    )
    return " + ".join(dict.fromkeys(causes)), gain


def _backbone(facts: Facts, planned: BackbonePlan, *, first: bool) -> list[Block]:
    _ = facts.words.gettext
    name = planned.name
    about = {
        "vgg16": _(
            "Thirteen convolutions and no normalisation, pretrained on pixels with blue first and "
            "ImageNet's mean subtracted, about -124 to 151. Pixels from 0 to 1 are 255 times "
            "fainter than what it knows, and nothing in it makes up for that."
        ),
        "mobilenet_v2": _(
            "Pretrained on pixels from -1 to 1, at 224 pixels. It halves the image five times: at "
            "32 pixels its last feature map is a single place, and most of what it knows of shapes "
            "cannot show."
        ),
        "resnet50_v2": _(
            "Fifty layers with shortcuts, normalised before each convolution, pretrained on pixels "
            "from -1 to 1. At 32 pixels its last feature map is a single place too."
        ),
    }
    blocks: list[Block] = [Heading(BACKBONE_NAMES.get(name, name))]
    if name in about:
        blocks.append(Text(about[name]))
    if name == AT_HAND:
        blocks.append(
            Text(
                _(
                    "Keras has no EfficientNet-Lite, so the code of Keras alone takes MobileNetV2. "
                    "convscope takes the backbone whose weights are installed together with it."
                )
            )
        )
    if name == "vgg16":
        blocks.append(
            Text(
                _(
                    "Its weights matter here: with Keras' own the tutorial reaches 60 % even so, "
                    "with torchvision's it is 33 %."
                )
            )
        )
    if name in facts.sizes:
        blocks.append(_parameters(facts, name))
    blocks.append(
        Beside(
            (
                Code(
                    transfer(name, max(planned.sizes, default=64), facts.epochs, first=first),
                    _("Keras alone"),
                ),
                Code(transfer_ours(name, facts.data, planned.sizes, planned.until), "convscope"),
            )
        )
    )
    if name in facts.ladders:
        return [*blocks, *_climbed(facts, name)]
    if name in facts.failures:
        reason = facts.failures[name]
        return [*blocks, Text(_("It could not be trained: {reason}").format(reason=reason))]
    if name in facts.missing:
        blocks += _how_to_get(facts, name)
        if planned.instead in facts.ladders:
            other = BACKBONE_NAMES.get(planned.instead, planned.instead)
            blocks += [
                Text(
                    _(
                        "In its place {name} climbs the ladder, the closest relative whose weights "
                        "are here."
                    ).format(name=other)
                ),
                *_climbed(facts, planned.instead),
            ]
    elif facts.done:
        blocks.append(Text(_("It has not been trained yet."), small=True))
    return blocks


def _how_to_get(facts: Facts, name: str) -> list[Block]:
    _ = facts.words.gettext
    shown = BACKBONE_NAMES.get(name, name)
    return [
        Text(
            _(
                "The ImageNet weights of {name} are not on this machine, so no accuracy is shown. "
                "With a network connection the same command downloads them. Otherwise, put the "
                "file into a folder and name it with --weights, then repeat the command: all else "
                "is kept."
            ).format(name=shown)
        ),
        Text(facts.missing[name], small=True),
        Command(f"{facts.again} --weights FOLDER"),
    ]


def _parameters(facts: Facts, name: str) -> Table:
    _ = facts.words.gettext
    total, trainable = facts.sizes[name]
    rows = [[_("here"), f"{total:,}", f"{trainable:,}"]]
    theirs = published.BACKBONES.get(name)
    if theirs is not None:
        rows.append([_("tutorial"), f"{theirs.n_params:,}", f"{theirs.n_trainable:,}"])
    columns = ("", _("parameters"), _("trainable"))
    caption = _("Parameters of the frozen backbone with the tutorial's head")
    return Table(columns, rows, caption)


def _climbed(facts: Facts, name: str) -> list[Block]:
    _ = facts.words.gettext
    ladder = facts.ladders[name]
    theirs = published.BACKBONES.get(name)
    bars = []
    if theirs is not None and facts.data.is_tutorials:
        bars.append(
            Bar(_("the tutorial's own"), theirs.accuracy, percent(theirs.accuracy), foreign=True)
        )
    n_test = facts.data.n_images["test"]
    for rung in ladder.rungs:
        accuracy = rung.test_accuracy
        shown = rung_name(facts, rung)
        if accuracy is None:
            said = _("failed") if rung.failure else _("not yet")
            bars.append(Bar(shown, None, said))
            continue
        low, high = wilson(accuracy, n_test)
        bars.append(Bar(shown, accuracy, percent(accuracy), low, high))
    blocks: list[Block] = [
        Bars(
            bars,
            _("Test accuracy of {name}, one change from bar to bar").format(
                name=BACKBONE_NAMES.get(name, name)
            ),
            _(
                "One run of each, seed {seed}. The lines are 95 % intervals for other images of "
                "the same kind; another seed gives another network."
            ).format(seed=83),
        )
    ]
    step, best = largest_step(facts, ladder), best_rung(ladder)
    if step is not None and best is not None and best.test_accuracy is not None:
        cause, gain = step
        blocks.append(
            Text(
                _(
                    "The largest step is “{cause}”: {gain} points on the validation images, which "
                    "chose the best rung, “{best}”, with {accuracy} on the test images."
                ).format(
                    cause=cause,
                    gain=f"{100 * gain:+.1f}",
                    best=rung_name(facts, best),
                    accuracy=percent(best.test_accuracy),
                )
            )
        )
    return blocks


def _overview(facts: Facts) -> Table:
    _ = facts.words.gettext
    rows = []
    planned = [each.name for each in facts.plan.backbones]
    for name in dict.fromkeys([*planned, *facts.ladders]):
        theirs, ladder = published.BACKBONES.get(name), facts.ladders.get(name)
        first = None if ladder is None else tutorials_way(ladder)
        best = None if ladder is None else best_rung(ladder)
        which = "" if best is None else rung_name(facts, best)
        rows.append(
            [
                BACKBONE_NAMES.get(name, name),
                "" if theirs is None else f"{theirs.accuracy:.4f}",
                "" if first is None else f"{first:.4f}",
                "" if best is None or best.test_accuracy is None else f"{best.test_accuracy:.4f}",
                _("no weights here") if name in facts.missing else which,
            ]
        )
    columns: Sequence[str] = (
        _("backbone"),
        _("tutorial"),
        _("the same here"),
        _("best rung"),
        _("which one"),
    )
    return Table(columns, rows, _("Test accuracy of the backbones; the tutorial's is on CIFAR-10"))
