"""`convscope studio`."""

from typing import Annotated

import typer

from convscope.cli._options import Port


def studio(
    port: Port = 8100,
    runs: Annotated[str, typer.Option(metavar="DIR", help="Folder of the runs.")] = "runs",
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the address in the browser.")
    ] = True,
) -> None:
    """Open the workbench in the browser: data, training, runs, errors, answers, without commands.

    Choose or drop a folder of images, see what is in it, train on it, watch the curves, look at the
    wrong answers, correct labels, export, and try the model on new images. Each step also shows the
    command that does it.

    Training runs in processes of its own: closing the page, or the studio with Ctrl-C, does not end
    it; the next studio on the same folder of runs finds it.

    It answers on this machine only, to the browser that opens the printed address with its token.
    On another machine: ssh -L 8100:localhost:8100 MACHINE, then open the address here. Your images
    are not changed, and nothing is sent anywhere.

    For example:

        pip install 'convscope[train,studio]'
        convscope studio
        # the runs of another folder, at another port, without opening a browser
        convscope studio --runs experiments/ --port 9000 --no-open
    """
    import convscope

    convscope.studio(
        runs,
        port=port,
        open_browser=open_browser,
        on_ready=lambda address: typer.echo(f"The studio is at {address}\n(Ctrl-C ends it)"),
    )
