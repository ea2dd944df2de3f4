"""`convscope explain`."""

from typing import Annotated

import typer

from convscope.cli._options import Images, Json, RunArgument, SavedWeights
from convscope.cli._unreadable import report_unreadable


def explain(
    run: RunArgument,
    images: Images,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="CLASS", help="Class to explain. Default: the predicted class."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Layer of the feature map for Grad-CAM; see 'convscope models show'. Default: "
            "the last one whose map is larger than a point."
        ),
    ] = None,
    weights: SavedWeights = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Folder of the pages. Default: explanations in the run."),
    ] = None,
    explorer: Annotated[
        bool | None,
        typer.Option(
            "--explorer/--no-explorer",
            help="Also write the explorer, a page to play with the network. Default: for one "
            "image; up to 15 MB each.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Explain a model's predictions for your images: what the network looks at.

    A page for each image: the prediction; the evidence for it (Grad-CAM, and the drop in
    probability when a part is covered); the first filters; and the output of each layer with the
    arithmetic of its size.
    For a single image also the explorer: every layer's maps, kernels that slide, each value number
    by number, and a workbench for kernel, stride, padding and dilation. One self-contained file
    each.

    A file that cannot be read is reported and skipped; the exit code is then 1.

    For example:

        convscope explain runs/NAME photo.jpg
        # why not a dog?
        convscope explain runs/NAME photo.jpg --class dog
    """
    import convscope
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.types import UnreadableImage
    from convscope.wording import sureness

    found = convscope.explain(
        run, images, class_name=class_name, layer=layer, weights=weights, out=out, explorer=explorer
    )
    unreadable = [each for each in found if isinstance(each, UnreadableImage)]
    read = [each for each in found if not isinstance(each, UnreadableImage)]
    if json:
        from convscope.cli._json import print_json

        print_json(
            {
                "explanations": [
                    {
                        "image": each.prediction.path,
                        "class": each.prediction.class_name,
                        "classes": each.prediction.class_names,
                        "probs": each.prediction.probs,
                        "about": each.class_name,
                        "layer": each.layer,
                        "page": each.page,
                        "explorer": each.explorer,
                    }
                    for each in read
                ],
                "skipped": [{"image": each.path, "reason": each.reason} for each in unreadable],
            }
        )
        report_unreadable(unreadable)
        return
    explorers = any(each.explorer for each in read)
    print_table(
        [
            *(("image", TEXT), ("predicted", TEXT), ("prob", NUMBER), ("page", TEXT)),
            *([("explorer", TEXT)] if explorers else []),
        ],
        (
            [
                each.prediction.path,
                each.prediction.answer,
                sureness(each.prediction.probs[each.prediction.class_name], 1),
                each.page,
                *([each.explorer or ""] if explorers else []),
            ]
            for each in read
        ),
    )
    report_unreadable(unreadable)
