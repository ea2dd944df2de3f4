"""Section 2: what convolution, padding, stride and pooling do, on an image of the data."""

from convscope.report.page import (
    Beside,
    Block,
    Box,
    Code,
    Command,
    Heading,
    Link,
    Section,
    Table,
    Text,
    svg_picture,
)
from convscope.studies.tutorial.arithmetic import convolve, output_size
from convscope.studies.tutorial.code import CONVOLUTION, CONVOLUTION_OURS
from convscope.studies.tutorial.facts import Facts
from convscope.studies.tutorial.figures import (
    EDGES,
    grey,
    padding_figure,
    pooling_figure,
    step_figure,
    stride_figure,
    strongest,
)
from convscope.wording import command_line

FORMULA = "N_out = floor((N_in + 2p - k) / s) + 1"


def section(facts: Facts) -> Section:
    """Return the section: each operation in words, in numbers, and in the formula of its size."""
    _ = facts.words.gettext
    pictures = facts.done
    image = grey(facts.data.samples[0])
    name = facts.data.sample_names[0]
    row, column = strongest(image)
    value = float(convolve(image, EDGES)[row, column])
    n = len(image)
    blocks: list[Block] = [
        Text(
            _(
                "A convolutional network has two parts. The first extracts features: layers of "
                "convolution and pooling. The second classifies: dense layers, as in any neural "
                "network. This section is about the first, on the image “{name}” of this data."
            ).format(name=name)
        ),
        Heading(_("Convolution")),
        Text(
            _(
                "A small kernel slides over the image. At each place, the pixels under it are "
                "multiplied by its numbers and added up, which gives one number of the feature "
                "map. What the network learns are the numbers of its kernels."
            )
        ),
    ]
    if pictures:
        blocks.append(
            svg_picture(
                step_figure(image, row, column),
                alt=_("An image, nine of its pixels, the kernel, and the feature map."),
                caption=_(
                    "One step: the nine pixels in the frame times the nine numbers of the kernel, "
                    "added up, give {value}."
                ).format(value=f"{value:.2f}".replace("-", "\N{MINUS SIGN}")),
                legend=_(
                    "This kernel answers to upright edges: red where it gets brighter to the "
                    "right, blue where it gets darker."
                ),
            )
        )
    blocks += [
        Heading(_("Padding")),
        Text(
            _(
                "Without padding the kernel cannot be centred on the border, so the map shrinks "
                "and the border counts less. Zeros around the image (“same” padding) keep the size."
            )
        ),
    ]
    if pictures:
        blocks.append(
            svg_picture(
                padding_figure(image),
                alt=_("The image and its feature map, without and with a border of zeros."),
                caption=_(
                    "Without padding {n} x {n} pixels become {without} x {without}; with one zero "
                    "on each side (p = 1) they stay {n} x {n}."
                ).format(n=n, without=output_size(n, 3, 0, 1)),
            )
        )
    blocks += [
        Heading(_("Stride")),
        Text(
            _(
                "The stride is the step of the kernel. With stride 2 it visits every second "
                "place, so each side of the map is halved and a quarter of the numbers is left."
            )
        ),
    ]
    if pictures:
        sizes = ", ".join(str(output_size(n, 3, 1, stride)) for stride in (1, 2, 4))
        blocks.append(
            svg_picture(
                stride_figure(image),
                alt=_("Feature maps with strides of 1, 2 and 4."),
                caption=_("Strides of 1, 2 and 4 give maps with sides of {sizes}.").format(
                    sizes=sizes
                ),
            )
        )
    blocks += [
        Heading(_("The size of a feature map")),
        Text(
            _(
                "One formula holds for all of them, with the side N of the input, kernel k, "
                "padding p on each side, and stride s:"
            )
        ),
        Code(FORMULA, _("formula"), "text"),
        _sizes(facts, n),
        Heading(_("Pooling")),
        Text(
            _(
                "Pooling makes maps smaller without learning anything: of each 2 x 2 values it "
                "keeps the largest (max pooling) or the mean (average pooling). The next "
                "convolution then sees twice as much of the image."
            )
        ),
    ]
    if pictures:
        blocks.append(
            svg_picture(
                pooling_figure(image, row, column, (_("maximum"), _("mean"))),
                alt=_("Sixteen pixels, the maxima of their four windows, and the means."),
                caption=_("Max and average pooling of 4 x 4 pixels of the image."),
                letters=facts.words.language != "en",
            )
        )
    blocks.append(
        Beside((Code(CONVOLUTION, _("Keras alone")), Code(CONVOLUTION_OURS, "convscope")))
    )
    if facts.inside:
        blocks.append(
            Link(
                facts.inside,
                _("Look inside the trained network: its kernels and feature maps on an image"),
            )
        )
    if facts.explorer:
        blocks.append(
            Link(
                facts.explorer,
                _("Play with it: every value of every feature map, number by number"),
            )
        )
    first = facts.first_run
    tries: list[Block] = [
        Text(_("See the arithmetic of each layer, and the feature maps of an image of your own.")),
        Command(command_line("models", "show", "cnn-functional")),
    ]
    if first is not None:
        tries.append(Command(command_line("explain", first.path, "IMAGE")))
    blocks.append(Box(_("What to try next"), tries))
    return Section(_("What convolution does"), blocks)


def _sizes(facts: Facts, n: int) -> Table:
    """Return the formula with the numbers of this data in it."""
    _ = facts.words.gettext
    cases = [
        (_("convolution, no padding"), 3, 0, 1),
        (_("convolution, “same” padding"), 3, 1, 1),
        (_("convolution, stride 2"), 3, 1, 2),
        (_("pooling"), 2, 0, 2),
    ]
    rows = [
        [
            name,
            str(k),
            str(p),
            str(s),
            f"floor(({n} + 2*{p} - {k}) / {s}) + 1 = {output_size(n, k, p, s)}",
        ]
        for name, k, p, s in cases
    ]
    columns = (_("layer"), "k", "p", "s", "N_out")
    return Table(columns, rows, _("The formula for a side of {n} pixels").format(n=n))
