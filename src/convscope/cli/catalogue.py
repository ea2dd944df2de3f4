"""`convscope datasets`, `convscope recipes` and `convscope recipes show`."""

from typing import Annotated

import typer

from convscope.cli._json import print_json
from convscope.cli._options import Json
from convscope.cli._tables import TEXT, print_table

recipes = typer.Typer(invoke_without_command=True)

_TRAINS = {"network": "a network from scratch", "backbone": "a pretrained backbone"}


def datasets(json: Json = False) -> None:
    """List the datasets, the names that --data takes besides a folder of images.

    Nothing is downloaded until a dataset is used.

    For example:

        convscope datasets
        convscope train --data fashion_mnist
    """
    from convscope.datasets import DATASETS

    if json:
        print_json(
            [
                {"name": entry.name, "summary": entry.summary, "package": entry.package}
                for entry in DATASETS.entries()
            ]
        )
        return
    print_table(
        [("dataset", TEXT), ("description", TEXT)],
        (
            # What --data takes: of a plugin's dataset with a place still its name.
            [
                entry.name if entry.package else entry.info.get("place", entry.name),
                entry.description,
            ]
            for entry in DATASETS.entries()
        ),
    )


@recipes.callback()
def list_recipes(context: typer.Context, json: Json = False) -> None:
    """List the recipes: kinds of training, and the kind of model that each is for.

    'convscope train --recipe NAME' uses one; one for a pretrained backbone needs --model too, where
    'convscope recipes show NAME' names none. That prints cost, expected accuracy and all settings,
    each of which --set changes.

    For example:

        convscope recipes show fast
        convscope train --recipe fast
        convscope train --model mobilenet_v2 --recipe finetune
    """
    if context.invoked_subcommand is not None:
        return
    from convscope.recipes import RECIPES

    if json:
        print_json(
            [
                {
                    "name": entry.name,
                    "trains": entry.info["trains"],
                    "summary": entry.summary,
                    "package": entry.package,
                }
                for entry in RECIPES.entries()
            ]
        )
        return
    print_table(
        [("recipe", TEXT), ("trains", TEXT), ("description", TEXT)],
        (
            [entry.name, _TRAINS[entry.info["trains"]], entry.description]
            for entry in sorted(RECIPES.entries(), key=lambda e: (e.info["trains"], e.name))
        ),
    )


@recipes.command("show")
def show_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name from 'convscope recipes'.")],
) -> None:
    """Show a recipe: its command, cost, expected accuracy and settings.

    The settings are YAML, with what each is as a comment: save them, change them, and use
    'convscope train --model MODEL --config FILE' (a network from scratch needs no --model).
    Those that are the same for all recipes stand below, and what 'convscope tune' varies above.

    For example:

        convscope recipes show probe
        convscope recipes show finetune > mine.yaml
        convscope train --model mobilenet_v2 --config mine.yaml
    """
    import inspect

    from convscope.recipe import RunConfig, with_descriptions
    from convscope.recipes import RECIPES

    if name == "auto":
        raise typer.BadParameter(
            "auto is no recipe but a search for the best one on your images: "
            "'convscope train --help'; it chooses between logistic, finetune-photos and, where "
            "the images are small, fast",
            param_hint="NAME",
        )
    entry = RECIPES.entry(name)
    about = [
        f"{name}: trains {_TRAINS[entry.info['trains']]}",
        "",
        *inspect.cleandoc(entry.doc).splitlines(),
    ]
    for model, settings in entry.info.get("of_models", {}).items():
        own = ", ".join(f"{key}={value}" for key, value in settings.items())
        about += ["", f"With --model {model} by default: {own}"]
    about.append("")
    if space := entry.info.get("space"):
        about += ["'convscope tune' varies:", *(f"  {key}={text}" for key, text in space.items())]
    else:
        about.append("'convscope tune' has nothing to vary, unless you name it with --space.")
    for line in about:
        # As comments, so that the whole is a configuration.
        typer.echo(f"# {line}".rstrip())
    settings = {"recipe": name, **entry.value().model_dump(mode="json")}
    typer.echo(with_descriptions(settings), nl=False)
    others = RunConfig().model_dump(mode="json", exclude={*settings, "format", "model"})
    typer.echo("\n# The same for all recipes by default:")
    for line in with_descriptions(others).splitlines():
        typer.echo(f"# {line}")
