"""Section 1: the images."""

from convscope.report.figures import samples_figure
from convscope.report.page import (
    Beside,
    Block,
    Box,
    Code,
    Command,
    Section,
    Table,
    Text,
    svg_picture,
)
from convscope.studies.tutorial.code import loading, loading_ours
from convscope.studies.tutorial.facts import Facts


def section(facts: Facts) -> Section:
    """Return the section: what is classified, how it is divided, and twenty of the images."""
    _ = facts.words.gettext
    data = facts.data
    height, width, channels = data.image_shape
    n_all = sum(data.n_images.values())
    blocks: list[Block] = [
        Text(
            _(
                "{name} has {n} images of {n_classes} classes. The network sees each as "
                "{height} x {width} pixels, {colour}, numbers from 0 to 255."
            ).format(
                name=data.name,
                n=f"{data.n_whole:,}",
                n_classes=len(data.class_names),
                height=height,
                width=width,
                colour=_("grey") if channels == 1 else _("red, green and blue"),
            )
        ),
        Text(
            _(
                "The network learns from the training images. Choices, such as the number of "
                "epochs, look at the validation images. The test images are opened once, at the "
                "end: what has helped to choose cannot judge any more."
            )
        ),
    ]
    if n_all < data.n_whole:
        blocks.append(
            Text(
                _("This quick look takes {n} of the images, the same share of each part.").format(
                    n=f"{n_all:,}"
                )
            )
        )
    elif data.is_tutorials:
        blocks.append(Text(_("The division is the tutorial's own, drawn with seed 83.")))
    names = {"train": _("training"), "val": _("validation"), "test": _("test")}
    rows = [[names[part], f"{n:,}"] for part, n in data.n_images.items()]
    blocks.append(Table((_("part"), _("images")), rows, _("Division into parts")))
    if facts.done:
        caption = _("{n} training images and their classes.").format(n=len(data.sample_names))
        if data.is_tutorials and n_all == data.n_whole:
            caption = _("Training images 190 to 209, the rows that the tutorial shows.")
        blocks.append(
            svg_picture(
                samples_figure(data.samples, data.sample_names, columns=7),
                alt=", ".join(data.sample_names),
                caption=caption,
                letters=facts.words.language != "en",
            )
        )
    blocks += [
        Beside(
            (
                Code(loading(data), _("Keras alone")),
                Code(loading_ours(data), "convscope"),
            )
        ),
        Box(
            _("What to try next"),
            (
                Text(_("Look at other images, and let the data be checked for copies and leaks.")),
                Command(facts.command("data", "show")),
                Command(facts.command("data", "check")),
            ),
        ),
    ]
    return Section(_("The data"), blocks)
