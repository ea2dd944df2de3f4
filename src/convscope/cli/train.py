"""`convscope train`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    DATA_HELP,
    BackboneWeights,
    DataDir,
    Epochs,
    Fit,
    Gpus,
    ImageSize,
    Json,
    Labels,
    Memory,
    Ray,
    RecipeName,
    Settings,
    Threads,
    executor_of,
    read_settings,
)
from convscope.wording import command_line


def train(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run to resume, with --resume.")
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"{DATA_HELP} Default: cifar10.")] = None,
    labels: Labels = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model, see 'convscope models'. Default: cnn-sequential; "
            "for a folder: the best one found within --minutes."
        ),
    ] = None,
    recipe: RecipeName = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of initial weights and image order. Default: 83.")
    ] = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    image_size: ImageSize = None,
    fit: Fit = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Time limit in minutes, evaluation included, loading and decoding the data not. "
            "For a folder: time of the search for the best classifier (default: 5). Otherwise "
            "network (unless --model is given) and number of epochs are chosen by the speed "
            "measured here (recipe fast)."
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            help="Target accuracy on CIFAR-10 in percent; the fastest network and epochs known to "
            "reach it on average over seeds are used."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision: auto, float32 or bfloat16; auto measures once which is faster here."
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="Backend: auto, tensorflow, jax or torch. Also: $KERAS_BACKEND."),
    ] = None,
    weights: BackboneWeights = None,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--no-refit",
            help="Finally retrain on training and validation images together.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="YAML file of settings, such as the config.yaml of another run."
        ),
    ] = None,
    settings: Settings = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="K-fold cross-validation: train K networks, each evaluated on the fold left out "
            "of its training. It measures, searches for nothing and leaves no model of all images; "
            "for a folder the default is recipe logistic on EfficientNet-Lite0. To resume, run the "
            "same command again."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Run folder to create, or its address (s3://...). Default: one below runs/.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume RUN (or --out) after its last completed epoch; --epochs may be increased.",
        ),
    ] = False,
    test: Annotated[
        bool | None,
        typer.Option(
            "--test/--no-test",
            help="Evaluate on the test images at the end, which is counted on this machine. "
            "--no-test leaves them sealed until 'convscope evaluate', when all choices are made. "
            "Default: --test; with --resume as the run was begun.",
        ),
    ] = None,
    data_dir: DataDir = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="Tracker in addition to results.csv: tensorboard or mlflow."),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="all",
            help="Divide each batch among all devices of JAX here, and of the other processes "
            "that Slurm, Kubernetes or $JAX_COORDINATOR_ADDRESS started. Default: one device.",
        ),
    ] = None,
    ray: Ray = None,
    threads: Threads = None,
    gpus: Gpus = None,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Train a model, evaluate it once on the test images, and keep everything in a run folder.

    The defaults are the tutorial's: CIFAR-10, its small CNN, its settings. For a folder of your own
    images, it searches for five minutes for the best classifier on a pretrained network, and from
    scratch too where they are small. After Ctrl-C, a crash or a reboot, --resume continues a run;
    on the same machine, on a CPU, its final weights are those of an uninterrupted one (a search
    tries the remaining candidates).

    For example:

        # seconds, nothing to download
        convscope train --data digits --epochs 5
        # the tutorial, in another style, with another seed
        convscope train --model cnn-functional --seed 1
        # your own images, a sub-folder for each class: the best classifier in 5, in 20 minutes
        convscope train --data photos/
        convscope train --data photos/ --minutes 20
        # images in one folder, their labels in a table
        convscope train --data images/ --labels labels.csv
        # any number of classes for each image: a cell 'cat|dog', a list, or a column for each
        convscope train --data images/ --labels tags.csv
        # the best network from scratch in 10 minutes on this machine; or 92 % on CIFAR-10
        convscope train --minutes 10
        convscope train --target 92
        # a pretrained backbone with a new head, then with its last stage fine-tuned
        convscope train --model mobilenet_v2
        convscope train --model mobilenet_v2 --recipe finetune
        # few images: cross-validation with five networks
        convscope train --data photos/ --folds 5
        # resume a run, and train longer
        convscope train --resume runs/NAME --epochs 30
    """
    import convscope
    from convscope.cli._json import print_json
    from convscope.cli._summary import print_folds, print_summary
    from convscope.errors import ConfigError
    from convscope.remote import folder_or_none
    from convscope.run import Run
    from convscope.scale.multihost import follows
    from convscope.studies.folds import find_begun
    from convscope.studies.search.auto import find_search

    if run is not None and not resume:
        raise ConfigError(f"'{run}' is not an option; to resume a run: --resume {run}")
    folder = folder_or_none(out if run is None else run, "--out" if run is None else "RUN")
    of_folds = folds is not None or (folder is not None and find_begun(folder) is not None)
    try:
        done = convscope.train(
            model,
            data=data,
            labels=labels,
            recipe=recipe,
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
            image_size=image_size,
            fit=fit,
            lr=lr,
            minutes=minutes,
            target=target,
            precision=precision,
            backend=backend,
            weights=weights,
            refit=refit,
            config=config,
            settings=read_settings(settings),
            folds=folds,
            out=out,
            resume=resume if run is None else run,
            test=test,
            data_dir=data_dir,
            trackers=tracker or [],
            executor=executor_of(ray, threads, gpus, memory),
            devices=devices,
        )
    except KeyboardInterrupt:
        if of_folds:
            typer.echo(
                "\nStopped. Finished training is kept; repeat the command to resume.", err=True
            )
            raise typer.Exit(130) from None
        search = None if folder is None else find_search(folder)
        if search is not None:
            typer.echo(
                "\nStopped. What was tried is kept; resume the search with: "
                f"{command_line('train', '--resume', search)}",
                err=True,
            )
            raise typer.Exit(130) from None
        if folder is not None and not resume and not Run(folder).state_file.exists():
            typer.echo("\nStopped before training began; there is nothing to resume.", err=True)
            raise typer.Exit(130) from None
        typer.echo(
            "\nStopped. What was finished is kept; resume with: "
            f"{command_line('train', '--resume', folder or 'RUN')}  "
            "('convscope runs' lists the runs)",
            err=True,
        )
        raise typer.Exit(130) from None
    if follows():  # process 0 reports
        return
    if json:
        print_json({"run": done.path, **done.metrics})
    elif isinstance(done, Run):
        print_summary(done, done.metrics)
    else:
        print_folds(done)
