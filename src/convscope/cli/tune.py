"""`convscope tune`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    BackboneWeights,
    Data,
    DataDir,
    DataWord,
    Epochs,
    Gpus,
    Json,
    Labels,
    Memory,
    Ray,
    RecipeName,
    Settings,
    Threads,
    executor_of,
    one_data,
    read_settings,
)
from convscope.cli._stopping import repeatable
from convscope.errors import ConfigError


def tune(
    data_word: DataWord = None,
    data: Data = None,
    labels: Labels = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model, see 'convscope models'. Default: the recipe's, or else cnn-sequential."
        ),
    ] = None,
    recipe: RecipeName = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Setting to vary, with its values: LOW..HIGH, LOW..HIGH:log, or A,B,C. If "
            "repeated: several. Default: what 'convscope recipes show RECIPE' names.",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Number of trials, those of earlier calls included.")
    ] = 30,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time limit of the search, without the comparison at its end."),
    ] = None,
    confirm: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="SEEDS",
            help="Number of new seeds with which the best settings are compared with the recipe's.",
        ),
    ] = 5,
    seed: Annotated[int, typer.Option(help="Seed of all trials and of the search.")] = 83,
    epochs: Epochs = None,
    weights: BackboneWeights = None,
    settings: Settings = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of the trials, or journal:FILE. Default: an SQLite file in the folder.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Folder of the search. Default: runs/tune-DATA-MODEL-RECIPE."
        ),
    ] = None,
    data_dir: DataDir = None,
    ray: Ray = None,
    threads: Threads = None,
    gpus: Gpus = None,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Search for better settings of a recipe, and say how much of the gain is luck.

    For photos take a pretrained backbone with --recipe finetune-photos: its default, logistic, has
    nothing to tune. With neither --model nor --recipe, a small network is tuned from scratch.

    The first trial has the recipe's own settings, if they lie in the search space; later ones
    follow what was good so far, and those that fall behind are stopped. At the end the best
    settings and the recipe's own are trained with new seeds and compared, since the best of many
    trials is also the luckiest. Only validation images are looked at. Writes best.yaml (for
    'convscope train --config'), trials.csv and a page with the importance of each setting. Repeat
    the command to resume, or to add --trials.

    For example:

        # a minute, nothing to download
        convscope tune digits --epochs 3 --trials 8 --confirm 2
        # settings of your own
        convscope tune digits --space optimizer.learning_rate=0.0001..0.1:log
        # photos: fine-tuning of a pretrained backbone
        convscope tune --data photos/ --model efficientnet_lite0 --recipe finetune-photos
        # eight hours on a cluster
        convscope tune --model fast-medium --recipe fast --minutes 480 --trials 500 --ray auto
    """
    import convscope
    from convscope.cli._json import print_json
    from convscope.cli._tables import NUMBER, TEXT, console, print_table
    from convscope.run import Run
    from convscope.studies.tuning.tuning import score_of_trial, spelt

    named = one_data(data_word, data)
    with repeatable():
        found = convscope.tune(
            model,
            data="cifar10" if named is None else named,
            labels=labels,
            recipe=recipe,
            space=dict(_split(text) for text in space or []),
            trials=trials,
            minutes=minutes,
            confirm=confirm,
            seed=seed,
            epochs=epochs,
            weights=weights,
            settings=read_settings(settings),
            storage=storage,
            out=out,
            data_dir=data_dir,
            executor=executor_of(ray, threads, gpus, memory),
        )
    if json:
        print_json(Run.read_json(found.state_file))
        return
    best = sorted(found.finished, key=score_of_trial, reverse=True)
    keys = list(best[0].settings)
    print_table(
        [("trial", NUMBER), (found.measure, NUMBER), *((key, NUMBER) for key in keys)],
        (
            [str(t.number), f"{t.score:.4f}", *(spelt(t.settings[key]) for key in keys)]
            for t in best[:5]
        ),
    )
    screen = console()
    screen.print()
    if found.importance:
        shares = ((key, f"{share:.0%}") for key, share in found.importance.items())
        print_table([("importance", TEXT), ("", NUMBER)], ([*pair] for pair in shares))
        screen.print()
    for line in (found.conclusion, found.caution):
        if line:
            screen.print(line, markup=False, soft_wrap=True)
    screen.print()
    screen.print(f"page      {found.page}", markup=False, soft_wrap=True)
    screen.print(f"settings  {found.config_file}", markup=False, soft_wrap=True)


def _split(text: str) -> tuple[str, str]:
    key, equals, values = text.partition("=")
    if not equals:
        raise ConfigError(
            f"--space {text}: must have the form KEY=VALUES, such as label_smoothing=0..0.2"
        )
    return key.strip(), values
