"""`convscope evaluate`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    BatchSize,
    DataDir,
    Json,
    MovedData,
    MovedLabels,
    RunArgument,
    SavedWeights,
)


def evaluate(
    run: RunArgument,
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
    labels: MovedLabels = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Evaluate a run: accuracy with its interval, top-k, loss, each class, confusions.

    Of images with any number of classes: mAP with its interval, F1, and a threshold for each class.

    Predictions are made once and saved as predictions.parquet; metrics.json and the pictures are
    derived from them. Each run of the model on the test images is logged in run.json, and the
    number of evaluations of these images on this machine is reported. With --no-test they stay
    sealed, and each class is judged by validation images.

    For example:

        convscope train --data digits --epochs 3 --out runs/evaluated
        convscope evaluate runs/evaluated --weights best
    """
    import convscope
    from convscope.cli._json import print_json
    from convscope.cli._summary import print_classes, print_summary
    from convscope.run import Run

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
