"""`convscope datasets` and `convscope recipes`."""

from convscope.cli._tables import TEXT, print_table


def datasets() -> None:
    """List the datasets."""
    from convscope.datasets import DATASETS

    print_table(
        [("dataset", TEXT), ("what it is", TEXT)],
        (
            ["PATH" if entry.name == "folder" else entry.name, entry.summary]
            for entry in DATASETS.entries()
        ),
    )


def recipes() -> None:
    """List the recipes: how a model is trained, what it costs, what to expect."""
    from convscope.recipes import RECIPES

    print_table(
        [("recipe", TEXT), ("what it does", TEXT)],
        ([entry.name, entry.summary] for entry in RECIPES.entries()),
    )
