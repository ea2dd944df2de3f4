"""`convscope cache` and `convscope cache clear`."""

from typing import Annotated

import typer

from convscope.cli._options import Json
from convscope.wording import file_size

app = typer.Typer(invoke_without_command=True)


@app.callback()
def cache(context: typer.Context, json: Json = False) -> None:
    """Show the contents of the cache: downloads, decoded images, features.

    The cache is the system's user cache folder, or $CONVSCOPE_CACHE. 'convscope cache clear'
    empties it, except for measurements of this machine and the ledger of test-set uses.
    """
    if context.invoked_subcommand is not None:
        return
    from convscope.cli._tables import NUMBER, TEXT, console, print_table
    from convscope.housekeeping.cache import cache_parts
    from convscope.storage import cache_dir

    parts = cache_parts()
    if json:
        from convscope.cli._json import print_json

        print_json({"folder": cache_dir(), "parts": parts})
        return
    print_table(
        [("kind", TEXT), ("size", NUMBER), ("contents", TEXT)],
        ([part.kind, file_size(part.n_bytes), part.about] for part in parts),
    )
    total = file_size(sum(part.n_bytes for part in parts))
    console().print(f"\n{total} in {cache_dir()}", markup=False, soft_wrap=True)


@app.command()
def clear(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND]...",
            help="Kinds to empty: datasets, packs, archives, divisions, features, weights, shards "
            "or remote.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Empty all of these kinds.")] = False,
) -> None:
    """Empty the cache: the named kinds, or --all of them.

    Only time is lost: contents are downloaded, decoded or computed again when needed. Entries in
    use by another process stay, and so do copies of runs that are no longer at their address.
    Runs are elsewhere ('convscope runs'); the ledger of test-set uses and measurements of this
    machine are never emptied.

    For example:

        convscope cache clear features
        convscope cache clear --all
    """
    from convscope.errors import ConfigError
    from convscope.housekeeping.cache import KINDS, empty_cache

    if bool(kinds) == everything:
        raise ConfigError(f"name the kinds to empty: {', '.join(KINDS)}, or --all of them")
    emptied = empty_cache(KINDS if everything else kinds or ())
    typer.echo(f"{file_size(emptied.n_bytes)} freed")
    for path, reason in emptied.stay.items():
        typer.echo(f"{path} stays: {reason}", err=True)
    if emptied.stay:
        raise typer.Exit(1)
