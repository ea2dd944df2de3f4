"""Section 3: one network in Keras' three styles: code, layers, curves, evaluation."""

import base64

from convscope.report.curves import CurveWords, curves_figure
from convscope.report.page import (
    Beside,
    Block,
    Box,
    Code,
    Command,
    Heading,
    Picture,
    Section,
    Table,
    Text,
    svg_picture,
)
from convscope.studies.tutorial import published
from convscope.studies.tutorial.code import network, network_ours
from convscope.studies.tutorial.facts import STYLE_NAMES, Facts, StyleRun, percent, time_of
from convscope.studies.tutorial.plan import STYLES


def section(facts: Facts) -> Section:
    """Return the section: the network, then each style with what it learnt."""
    _ = facts.words.gettext
    blocks: list[Block] = [
        Text(
            _(
                "The network is small: three convolutions with 32, 64 and 64 kernels of 3 x 3, a "
                "max pooling after each of the first two, then a dense layer of 128 and one with "
                "an output for each class. Trained with Adam at a learning rate of 0.001, in "
                "batches of 128, for {epochs} epochs."
            ).format(epochs=facts.epochs)
        ),
    ]
    if facts.sheet is not None:
        blocks += [_layers(facts), _architecture(facts)]
    about = {
        "cnn-sequential": _(
            "A list of layers, each on the output of the one before. The shortest way, and enough "
            "for a network that never branches."
        ),
        "cnn-functional": _(
            "Each layer is called on the output of another, so paths may branch and join, and "
            "Keras still knows the whole graph before it sees an image."
        ),
        "cnn-subclassing": _(
            "A class with layers in its constructor and plain Python in a method. The most "
            "freedom, and the style of PyTorch; Keras knows the graph only after the first image."
        ),
    }
    for style in STYLES:
        blocks += [
            Heading(STYLE_NAMES[style]),
            Text(about[style]),
            Beside(
                (
                    Code(network(style, facts.epochs), _("Keras alone")),
                    Code(network_ours(style, facts.data, facts.epochs), "convscope"),
                )
            ),
        ]
        runs = facts.runs_of(style)
        if runs:
            blocks += [_curves(facts, runs[0]), Text(_evaluated(facts, runs[0]))]
        elif style in facts.failures:
            blocks.append(
                Text(_("It could not be trained: {reason}").format(reason=facts.failures[style]))
            )
        elif facts.done:
            blocks.append(Text(_("It has not been trained yet."), small=True))
    blocks.append(
        Box(
            _("What to try next"),
            (
                Text(
                    _(
                        "The curves part: the network begins to memorise its training images. Stop "
                        "when validation says so, show it shifted images, or let a recipe for "
                        "speed do both."
                    )
                ),
                Command(facts.command("train", "--model", "cnn-functional", "--set", "judge=best")),
                Command(
                    facts.command("train", "--model", "cnn-functional", "--set", "augment.crop=0.1")
                ),
                Command(facts.command("train", "--recipe", "fast", "--minutes", "4")),
            ),
        )
    )
    return Section(_("One network in three styles"), blocks)


def _layers(facts: Facts) -> Table:
    _ = facts.words.gettext
    assert facts.sheet is not None
    rows = [
        [
            layer.name,
            layer.kind,
            " x ".join(map(str, layer.output_shape)),
            f"{layer.params:,}",
            layer.formula,
        ]
        for layer in facts.sheet.geometry
        if layer.kind not in ("InputLayer", "Resizing", "Rescaling")
    ]
    total = facts.sheet.n_params
    rows.append([_("total"), "", "", f"{total:,}", ""])
    theirs = published.STYLES["cnn-sequential"].n_params
    caption = _("Layers of the network, the same in each style: {n} parameters")
    if facts.data.is_tutorials:
        caption = _(
            "Layers of the network, the same in each style: {n} parameters (the tutorial: {theirs})"
        )
    caption = caption.format(n=f"{total:,}", theirs=f"{theirs:,}")
    columns = (_("layer"), _("kind"), _("output"), _("parameters"), _("side of the map"))
    return Table(columns, rows, caption)


def _architecture(facts: Facts) -> Picture:
    _ = facts.words.gettext
    source = base64.b64encode(facts.architecture.encode("utf-8")).decode("ascii")
    return Picture(
        f"data:image/svg+xml;base64,{source}",
        _("The layers as blocks, each of the size of its feature map."),
        _("The architecture: maps get smaller and more, then become a vector."),
        860,
    )


def _curves(facts: Facts, run: StyleRun) -> Picture:
    _ = facts.words.gettext
    best = max(run.history, key=lambda row: float(row["val_accuracy"]))
    last = run.history[-1]
    words = CurveWords(
        loss=_("Loss (nats)"),
        accuracy=_("Accuracy"),
        train=_("train"),
        val=_("val"),
        epoch=_("epoch"),
        best=_("best val {accuracy}, epoch {epoch}"),
    )
    return svg_picture(
        curves_figure(run.history, words=words),
        alt=_(
            "Loss and accuracy by epoch: {train} on training, {val} on validation images."
        ).format(train=percent(last["accuracy"]), val=percent(last["val_accuracy"])),
        caption=_(
            "Learning curves with seed {seed}: validation accuracy is highest after epoch {epoch} "
            "({best}) and {last} at the end, when training accuracy is {train}."
        ).format(
            seed=run.seed,
            epoch=int(best["epoch"]),
            best=percent(best["val_accuracy"]),
            last=percent(last["val_accuracy"]),
            train=percent(last["accuracy"]),
        ),
        letters=facts.words.language != "en",
    )


def _evaluated(facts: Facts, run: StyleRun) -> str:
    _ = facts.words.gettext
    judged = run.metrics.get("test")
    if judged is None:
        return _("The test images are still sealed.")
    low, high = judged["accuracy_interval_95"]
    seconds = sum(float(row["seconds"]) for row in run.history)
    said = _(
        "On the test images: accuracy {accuracy} (95 % interval {low} to {high}), loss {loss}, "
        "after {time} of training."
    ).format(
        accuracy=percent(judged["accuracy"]),
        low=percent(low),
        high=percent(high),
        loss=f"{judged['loss']:.3f}",
        time=time_of(facts, seconds),
    )
    theirs = published.STYLES[run.style]
    return (
        said
        + " "
        + _("The tutorial, on CIFAR-10: {accuracy}, loss {loss}.").format(
            accuracy=percent(theirs.accuracy), loss=f"{theirs.loss:.3f}"
        )
    )
