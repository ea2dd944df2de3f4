"""`convscope evaluate`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    BatchSize,
    DataDir,
    Json,
    MovedData,
    SavedWeights,
)
from convscope.errors import ConfigError
from convscope.wording import command_line


def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Run folder, its name below runs/, or its address; with --on also an exported "
            "ONNX file.",
        ),
    ],
    on: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Evaluate on other labelled images, such as new photos: a folder with a folder "
            "for each class, an archive of one, a list of images and labels, shards or a built-in "
            "dataset. Its classes are those of the model, or some of them.",
        ),
    ] = None,
    weights: SavedWeights = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Predict again even if predictions are saved.")
    ] = False,
    no_test: Annotated[
        bool,
        typer.Option(
            "--no-test",
            help="Leave the test images sealed: evaluate on the validation images alone. "
            "Saved results on test images stay, if they are of these weights.",
        ),
    ] = False,
    batch_size: BatchSize = None,
    data: MovedData = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Current place of the run's table of labels, if it moved; with --on the table of "
            "the labels of DATA.",
        ),
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder of the results of --on. Default: evaluations/NAME in the run, or, for an "
            "exported file, here.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Evaluate a run: accuracy with its interval, top-k, loss, each class, confusions.

    Of images with any number of classes: mAP with its interval, F1, and a threshold for each class.

    Predictions are made once and saved as predictions.parquet; metrics.json and the pictures are
    derived from them. Each run of the model on the test images is logged in run.json, and the
    number of evaluations of these images on this machine is reported. With --no-test they stay
    sealed, and each class is judged by validation images.

    With --on DATA a run, or an exported file, is evaluated on images that are not the run's own.
    Those that it was trained or chosen by, known by their pixels, are left out.

    For example:

        convscope train --data digits --epochs 3 --out runs/evaluated
        convscope evaluate runs/evaluated --weights best
        # on new photos, in a folder for each class
        convscope evaluate runs/NAME --on new-photos
    """
    import convscope
    from convscope.classifier.exported import is_exported
    from convscope.cli._json import print_json
    from convscope.cli._summary import print_classes, print_evaluation, print_summary
    from convscope.run import Run

    if on is not None:
        given = {"--fresh": fresh, "--no-test": no_test, "--data": data is not None}
        for option in (option for option, is_given in given.items() if is_given):
            raise ConfigError(f"{option} is for the run's own images; omit it with --on {on}")
        done = convscope.evaluate_on(
            run,
            on,
            labels=labels,
            weights=weights,
            batch_size=batch_size,
            data_dir=data_dir,
            out=out,
        )
        if json:
            print_json({"path": done.path, **done.content})
        else:
            print_evaluation(done)
        return
    if out is not None:
        raise ConfigError("--out is for the results on other images; give --on DATA too")
    if is_exported(run):
        raise ConfigError(
            f"{run} is an exported file, which has no images of its own; on others: "
            f"{command_line('evaluate', run, '--on', 'DATA')}"
        )
    opened = Run.open(run)
    metrics = convscope.evaluate(
        opened,
        weights=weights,
        test=not no_test,
        fresh=fresh,
        batch_size=batch_size,
        data=data,
        labels=labels,
        data_dir=data_dir,
    )
    if json:
        print_json(metrics)
        return
    print_classes(metrics, "val" if no_test else "test")
    print_summary(opened, metrics)
