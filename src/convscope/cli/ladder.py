"""`convscope ladder`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli._options import (
    DATA_HELP,
    BackboneWeights,
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
    read_numbers,
    read_settings,
)
from convscope.wording import command_line

if TYPE_CHECKING:
    from rich.console import Console

    from convscope.studies.ladder.rungs import Ladder, Rung


def ladder(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Pretrained backbone, see 'convscope models'.")
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "cifar10",
    labels: Labels = None,
    seed: Annotated[int, typer.Option(help="Seed of initial weights and image order.")] = 83,
    sizes: Annotated[
        str, typer.Option(metavar="PX,PX", help="Image sides in pixels, one rung each.")
    ] = "64,96,160",
    until: Annotated[
        str | None,
        typer.Option(metavar="RUNG", help="Last rung to train, such as '64 px'. Default: all."),
    ] = None,
    epochs: Epochs = None,
    weights: BackboneWeights = None,
    settings: Settings = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Folder of the ladder. Default: runs/ladder-DATA-MODEL-seedN."
        ),
    ] = None,
    data_dir: DataDir = None,
    ray: Ray = None,
    threads: Threads = None,
    gpus: Gpus = None,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Find out what makes transfer learning work: improve the tutorial's, change by change.

    The first rung freezes the backbone at 32 px with pixels in [0, 1], as the tutorial did. Each
    rung after it makes one change and keeps the earlier ones: the scaling, larger images,
    standardised features; the last two are the recipes probe (a better head) and finetune (the last
    stage). Each is a run, evaluated on validation images; the test images are opened when all are
    trained. --seed, --epochs and --set hold for every rung. Repeat the command to resume a stopped
    ladder.

    For example:

        convscope ladder mobilenet_v2
        # a quick look, on your own data
        convscope ladder resnet50_v2 --data photos/ --sizes 96 --epochs 2
    """
    import convscope
    from convscope.cli._tables import console

    try:
        done = convscope.ladder(
            model,
            data=data,
            labels=labels,
            seed=seed,
            sizes=read_numbers(
                sizes, "--sizes", "numbers of pixels separated by commas, such as 64,96"
            ),
            until=until,
            epochs=epochs,
            weights=weights,
            settings=read_settings(settings),
            out=out,
            data_dir=data_dir,
            executor=executor_of(ray, threads, gpus, memory),
            after_rung=lambda so_far: _print_rungs(so_far, console(stderr=True)),
        )
    except KeyboardInterrupt:
        # In the order of --help, whatever the order was.
        names = [str(each.name) for each in context.command.params]
        given = {name: context.params[name] for name in names if name in context.params}
        typer.echo(f"\nStopped. Finished rungs are kept; resume with: {_command(given)}", err=True)
        raise typer.Exit(130) from None
    if json:
        from convscope.cli._json import print_json

        print_json(
            {
                "about": done.about,
                "rungs": done.rungs,
                "conclusion": done.conclusion,
                "caution": done.caution,
                "page": done.page,
            }
        )
        return
    screen = console()
    _print_rungs(done, screen)
    screen.print()
    screen.print(done.conclusion, markup=False)
    screen.print(done.caution, markup=False)
    screen.print()
    for label, path in (
        ("page", done.page),
        ("picture", done.picture),
        ("table", done.table_file),
        ("runs", done.path / "rungs"),
    ):
        screen.print(f"{label:<9}{path}", markup=False, soft_wrap=True)


def _print_rungs(ladder: "Ladder", screen: "Console") -> None:
    from convscope.cli._tables import NUMBER, TEXT, print_table

    reached = [rung for rung in ladder.rungs if rung.failure or rung.val_accuracy is not None]
    # On a narrow terminal the words are dropped first, then the cost of using the model.
    columns = [("rung", NUMBER), ("what", TEXT)]
    columns += [("change", TEXT)] if screen.width >= 130 else []
    columns += [(name, NUMBER) for name in ("val", "gain", "test", "features", "training")]
    columns += [("multiply-adds", NUMBER)] if screen.width >= 85 else []

    def cells(rung: "Rung") -> dict[str, Any]:
        return {
            "rung": rung.number,
            "what": rung.name if rung.failure is None else f"{rung.name} (failed)",
            "change": rung.change,
            "val": _tell(rung.val_accuracy, "{:.4f}"),
            "gain": _tell(rung.gain, "{:+.4f}"),
            "test": _tell(rung.test_accuracy, "{:.4f}"),
            "features": _tell(rung.feature_seconds, "{:,.0f} s"),
            "training": _tell(rung.train_seconds, "{:,.0f} s"),
            "multiply-adds": _tell(rung.multiply_adds, "{:,}"),
        }

    rows = ([cells(rung)[name] for name, _ in columns] for rung in reached)
    print_table(columns, rows, out=screen)
    for rung in reached:
        if rung.failure:
            screen.print(f"rung {rung.number} failed: {rung.failure}", markup=False, soft_wrap=True)


def _tell(value: float | None, template: str) -> str | None:
    return None if value is None else template.format(value)


def _command(given: dict[str, Any]) -> str:
    """Return the command line with these options."""
    words = ["ladder", given["model"]]
    for name, value in given.items():
        option = "--set" if name == "settings" else f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list | tuple) else [value]:
            if name in ("model", "json") or each is None:
                continue
            words += [option, each]
    return command_line(*words)
