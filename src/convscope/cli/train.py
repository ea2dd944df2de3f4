"""`convscope train`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    DATA_HELP,
    BackboneWeights,
    DataDir,
    Epochs,
    ImageSize,
    Json,
    RecipeName,
    Settings,
    read_settings,
)
from convscope.wording import command_line


def train(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="With --resume: the run to go on with.")
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"{DATA_HELP} Default: cifar10.")] = None,
    model: Annotated[
        str | None, typer.Option(help="See 'convscope models'. Default: cnn-sequential.")
    ] = None,
    recipe: RecipeName = None,
    seed: Annotated[
        int | None, typer.Option(help="Of initial weights and image order. Default: 83.")
    ] = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
    image_size: ImageSize = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="How long it may take: network (if none is named) and epochs are chosen by the "
            "speed measured here. Recipe fast."
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            help="Or the accuracy wanted on CIFAR-10, in per cent: the quickest network and epochs "
            "known to reach it."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, float32 or bfloat16; auto measures once what is faster here."),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="auto, tensorflow, jax or torch. Also: $KERAS_BACKEND.")
    ] = None,
    weights: BackboneWeights = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="YAML settings, such as the config.yaml of another run."),
    ] = None,
    settings: Settings = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Cross-validation: a network for each of so many parts of the images, judged on "
            "it; one number over all images. The same command goes on after a stop."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The run folder to make. Default: one below runs/."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with RUN (or --out) after its last epoch; --epochs may grow."
        ),
    ] = False,
    test: Annotated[
        bool,
        typer.Option(
            "--test/--no-test",
            help="Judge on the test images at the end, and say how often that was done on this "
            "machine. --no-test leaves them sealed until "
            "'convscope evaluate', when all choices are made.",
        ),
    ] = True,
    data_dir: DataDir = None,
    tracker: Annotated[
        list[str] | None, typer.Option(help="tensorboard or mlflow, beside results.csv.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a model, judge it once on the test images, and keep everything in a run folder.

    The defaults are the tutorial's: CIFAR-10, its small CNN, its settings. After Ctrl-C, a crash or
    a reboot, --resume goes on to the very weights that an uninterrupted run would have.

    For example:

        # seconds, nothing to download
        convscope train --data digits --epochs 5
        # the tutorial, in another style, with another seed
        convscope train --model cnn-functional --seed 1
        # your own images, a sub-folder for each class
        convscope train --data photos/ --image-size 64
        # the best that this machine learns from nothing in 10 minutes; or 92 % on CIFAR-10
        convscope train --minutes 10
        convscope train --target 92
        # a pretrained backbone under a new head, then with its last stage fine-tuned
        convscope train --model mobilenet_v2
        convscope train --model mobilenet_v2 --recipe finetune
        # few images: judge each of them once, by five networks
        convscope train --data photos/ --folds 5
        # go on with a run, and longer
        convscope train --resume runs/NAME --epochs 30
    """
    import convscope
    from convscope.cli._json import print_json
    from convscope.cli._summary import print_folds, print_summary
    from convscope.errors import ConfigError
    from convscope.paths import path_or_none
    from convscope.run import Run
    from convscope.studies.folds import find_begun

    if run is not None and not resume:
        raise ConfigError(f"'{run}' is not an option; to go on with a run: --resume {run}")
    folder = path_or_none(out if run is None else run, "--out" if run is None else "RUN")
    of_folds = folds is not None or (folder is not None and find_begun(folder) is not None)
    try:
        done = convscope.train(
            model,
            data=data,
            recipe=recipe,
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
            image_size=image_size,
            lr=lr,
            minutes=minutes,
            target=target,
            precision=precision,
            backend=backend,
            weights=weights,
            config=config,
            settings=read_settings(settings),
            folds=folds,
            out=out,
            resume=resume if run is None else run,
            test=test,
            data_dir=data_dir,
            trackers=tracker or [],
        )
    except KeyboardInterrupt:
        if of_folds:
            typer.echo(
                "\nStopped. What is trained is kept; the same command goes on with it.", err=True
            )
            raise typer.Exit(130) from None
        if folder is not None and not resume and not Run(folder).state_file.exists():
            typer.echo("\nStopped before training began; there is nothing to go on with.", err=True)
            raise typer.Exit(130) from None
        typer.echo(
            "\nStopped. What the finished epochs learnt is kept; go on with: "
            f"{command_line('train', '--resume', folder or 'RUN')}  "
            "('convscope runs' lists the runs)",
            err=True,
        )
        raise typer.Exit(130) from None
    if json:
        print_json({"run": done.path, **done.metrics})
    elif isinstance(done, Run):
        print_summary(done, done.metrics)
    else:
        print_folds(done)
