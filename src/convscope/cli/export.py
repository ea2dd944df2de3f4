"""`convscope export`."""

from typing import Annotated

import typer

from convscope.cli._options import DataDir, Json, MovedData, MovedLabels, RunArgument, SavedWeights


def export(
    run: RunArgument,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "--target",
            metavar="FORMAT",
            help="Format: onnx, openvino, litert (phones), savedmodel (TensorFlow), a model "
            "repository: triton, ovms; or web: a page that classifies in the browser.",
        ),
    ] = "onnx",
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Compute in 8-bit integers (onnx, litert); kept only if it loses at most half a "
            "point of validation accuracy and gains enough: onnx 1.1 times the speed here, at a "
            "batch of 1 or of 64; litert half of the size. Its thresholds are chosen anew.",
        ),
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File (ending in .onnx or .tflite) or folder to write. Default: in RUN/export/, "
            "named after the run, and after --weights that are not the recipe's choice.",
        ),
    ] = None,
    weights: SavedWeights = None,
    data: MovedData = None,
    labels: MovedLabels = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Export a trained model, for use without Keras, and check that it gives the same answers.

    The exported model takes raw pixels and gives final probabilities. It is opened in its own
    engine and compared with the trained model on validation images; one that differs is not kept.

    For example:

        convscope train --data digits --epochs 3 --out runs/digits
        convscope export runs/digits --out digits.onnx
        convscope predict digits.onnx photo.png
    """
    import dataclasses

    import convscope
    from convscope.cli._tables import NUMBER, TEXT, console, print_table
    from convscope.export import FORMATS

    path, parity = convscope.export(
        run,
        format=form,
        int8=int8,
        out=out,
        weights=weights,
        data=data,
        labels=labels,
        data_dir=data_dir,
    )
    if json:
        from convscope.cli._json import print_json

        print_json({"path": str(path), **dataclasses.asdict(parity)})
        return
    before = "float32" if int8 else "trained"
    rows = [
        [f"validation {parity.measure}", *(f"{value:.4f}" for value in parity.accuracy), ""],
        *(
            [f"ms for a batch of {n}", f"{a:.2f}", f"{b:.2f}", f"{parity.speedup(n):.1f} x"]
            for n, (a, b) in parity.latency_ms.items()
        ),
    ]
    print_table([("", TEXT), (before, NUMBER), ("exported", NUMBER), ("faster", NUMBER)], rows)
    screen = console()
    screen.print()
    screen.print(
        f"Same {'class' if parity.measure == 'accuracy' else 'decisions'} for "
        f"{parity.agreement:.2%} of {parity.n_images:,} validation images, largest "
        f"difference of a probability {parity.largest_difference:.1g}; for "
        f"{parity.file_agreement:.1%} of {parity.n_files} image files of their own size.",
        soft_wrap=True,
    )
    written = FORMATS.get(form)()
    if written.int8 is not None and int8 and not written.int8.least_speedup:
        screen.print(
            "The times are of this machine, and decide nothing: measure on the phone.",
            soft_wrap=True,
        )
    size = f"{parity.size_mb:.1f} MB"
    if int8:
        size += f"; in float32 {parity.float32_mb:.1f} MB"
    screen.print(f"exported  {path} ({size})", markup=False, highlight=False, soft_wrap=True)
    if written.usage is not None:
        screen.print(f"\n{written.usage(path)}", markup=False, highlight=False, soft_wrap=True)
