"""`convscope compare`."""

from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli._options import (
    BackboneWeights,
    Data,
    DataDir,
    Epochs,
    Gpus,
    Json,
    Labels,
    Memory,
    Ray,
    Settings,
    Threads,
    executor_of,
    one_data,
    read_alternatives,
    read_names,
    read_numbers,
    read_settings,
)
from convscope.cli._stopping import repeatable

if TYPE_CHECKING:
    from rich.console import Console

    from convscope.studies.comparison.comparison import Comparison


_SEEDS = "5"


def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA | RUN RUN...]",
            help="Finished runs; or the data to train on, the same as --data (default: cifar10).",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    labels: Labels = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Models to train, or MODEL:RECIPE for one with its own recipe; see 'convscope "
            "models'. Default: the recipes', or else cnn-sequential.",
        ),
    ] = None,
    recipes: Annotated[
        str | None,
        typer.Option(
            "--recipes", "--recipe", metavar="A,B", help="Recipes. Default: that of each model."
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="N", help="Number of seeds, counted from 83; or the seeds, such as 1,2,3."
        ),
    ] = _SEEDS,
    epochs: Epochs = None,
    weights: BackboneWeights = None,
    settings: Settings = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B",
            help="Setting with the values to compare, which may be lists: head.hidden=[128],[256]. "
            "If repeated: every combination.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder of the comparison. Default: runs/compare-..., named after its contents; "
            "of runs, with a number if that holds a comparison of others.",
        ),
    ] = None,
    data_dir: DataDir = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final",
            help="Compare on the test images, opened once for all runs, when all choices are made.",
        ),
    ] = False,
    ray: Ray = None,
    threads: Threads = None,
    gpus: Gpus = None,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Compare training configurations over seeds and images: is one better?

    Each model is trained with each recipe and several seeds, each run in its own process and all on
    one split. They are compared on validation images, and the test images stay sealed; with --final
    the verdicts are about the test images, which are opened once for all runs. For each two
    configurations the verdict is by how much one is better or, if no difference is shown, how large
    it could be at most, and how many seeds would show it; with one seed each, only which of the two
    networks has the higher accuracy. Runs that differ only in their seed count as one
    configuration. Repeat the command to resume a stopped comparison, or to add --seeds.

    For example:

        # seconds, nothing to download
        convscope compare --data digits --models cnn-sequential,cnn-functional --epochs 2
        # are the tutorial's three styles different? (an hour or two)
        convscope compare --models cnn-sequential,cnn-functional,cnn-subclassing
        # a network from scratch against a fine-tuned backbone
        convscope compare --data photos/ --models fast-small:fast,mobilenet_v2:finetune --seeds 3
        # recipes on one model
        convscope compare --data photos/ --models mobilenet_v2 --recipes tutorial-transfer,probe
        # settings: does label smoothing help?
        convscope compare --models fast-small:fast --vary label_smoothing=0,0.1,0.2
        # the choice is made: what do the test images say? (nothing is trained again)
        convscope compare --data digits --models cnn-sequential,cnn-functional --epochs 2 --final
        # existing runs
        convscope compare runs/first runs/second
    """
    import convscope
    from convscope.cli._json import print_json
    from convscope.cli._tables import console
    from convscope.errors import ConfigError
    from convscope.run import Run

    what = what or []
    if models is None and recipes is None and vary is None:
        if len(what) < 2:
            raise ConfigError(
                "name what to compare: --models A,B, --recipes A,B, --vary KEY=A,B, or runs"
            )
        of_training = (
            *(("--epochs", epochs), ("--weights", weights), ("--set", settings)),
            *(("--ray", ray), ("--threads", threads), ("--gpus", gpus), ("--memory", memory)),
            ("--seeds", None if seeds == _SEEDS else seeds),
        )
        for option, value in of_training:
            if value:
                raise ConfigError(
                    f"{option} is for runs to be trained; finished ones are compared as they are"
                )
        done = convscope.compare_runs(
            what, data=data, labels=labels, out=out, data_dir=data_dir, final=final
        )
    else:
        if len(what) > 1:
            raise ConfigError(
                f"'{what[1]}': --models, --recipes or --vary take one dataset or folder; "
                "compare existing runs without those options"
            )
        named = one_data(what[0] if what else None, data)
        numbers = read_numbers(seeds, "--seeds", "a number of seeds, or seeds separated by commas")
        if not numbers:
            raise ConfigError("--seeds must be a number of seeds, or a list such as 1,2,3")
        asked = read_names(recipes) if recipes else None
        with repeatable():
            done = convscope.compare(
                read_names(models) if models else [_model_of(asked)],
                data="cifar10" if named is None else named,
                labels=labels,
                recipes=asked,
                seeds=numbers if "," in seeds else numbers[0],
                epochs=epochs,
                weights=weights,
                settings=read_settings(settings),
                vary=read_alternatives(vary),
                out=out,
                data_dir=data_dir,
                final=final,
                executor=executor_of(ray, threads, gpus, memory),
            )
    if json:
        print_json(Run.read_json(done.state_file))
        return
    _print(done, console())


def _model_of(recipes: list[str] | None) -> str:
    """Return the model of recipes if none is named: their own if it is one, or else the usual."""
    from convscope.recipes import usual_model

    own = {usual_model(recipe, "--models") for recipe in recipes or ()}
    return own.pop() if len(own) == 1 else usual_model(None)


def _print(done: "Comparison", screen: "Console") -> None:
    from convscope.cli._tables import NUMBER, TEXT, print_table

    columns = [
        ("configuration", TEXT),
        (done.part_name, NUMBER),
        ("95 % interval over seeds", NUMBER),
        ("each seed", TEXT),
    ]
    rows = []
    for arm in done.arms:
        accuracy = arm.accuracy
        each = ", ".join(f"{value:.4f}" for value in arm.accuracies)
        if accuracy is None:
            rows.append([arm.name, None, None, "all failed"])
        elif accuracy.low is None or accuracy.high is None:
            rows.append([arm.name, f"{accuracy.mean:.4f}", None, each])
        else:
            interval = f"{accuracy.low:.4f} to {accuracy.high:.4f}"
            rows.append([arm.name, f"{accuracy.mean:.4f}", interval, each])
    print_table(columns, rows, out=screen)
    screen.print()

    def say(text: str) -> None:
        screen.print(text, markup=False, soft_wrap=True)

    for arm in done.arms:
        for trial in arm.failed:
            say(f"{arm.name}, seed {trial.seed} could not be trained: {trial.failure}")
    for pair in done.pairs:
        say(pair.verdict)
        if pair.outlook:
            say(f"  {pair.outlook}")
    say("")
    if len(done.pairs) != 1:
        say(done.conclusion)
    if done.pairs:
        say(done.caution)
    say("")
    say(f"page     {done.page}")
    say(f"numbers  {done.state_file}")
