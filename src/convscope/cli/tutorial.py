"""`convscope tutorial`."""

from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli._options import DATA_HELP, DataDir, DataWord, Json, Labels, one_data
from convscope.wording import command_line, duration

if TYPE_CHECKING:
    from convscope.studies.tutorial.study import Tutorial


def tutorial(
    word: DataWord = None,
    data: Annotated[str | None, typer.Option(help=f"{DATA_HELP} Default: cifar10.")] = None,
    labels: Labels = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Fewer images, epochs and steps: minutes, and lower accuracies."
        ),
    ] = False,
    language: Annotated[
        str, typer.Option(metavar="en|ko", help="Language of the page: English or Korean.")
    ] = "en",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with ImageNet weights of the backbones. Default: $CONVSCOPE_WEIGHTS, "
            "Keras' cache or the network.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder of the page and the runs. Default: runs/tutorial-DATA, or "
            "runs/tutorial-DATA-quick with --quick.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the steps and their expected times; do nothing.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run a whole tutorial of convolutional networks on your images, as one page.

    What convolution, padding, stride and pooling do, on one of the images; a small network in
    Keras' three styles, trained and compared; three ImageNet backbones, first as the tutorial that
    convscope grew out of used them, then with one problem fixed at a time; what it concluded, and
    what was found. Plain Keras code stands beside convscope's, and each section ends with commands
    to try next. The page, tutorial.html, has everything in it; the runs lie beside it.

    CIFAR-10 takes under two hours on two cores, --quick under six minutes. Repeat the command to
    resume a stopped tutorial, to add backbones whose weights were missing, or to have the page in
    another language. A backbone without weights gets a section that says how to get them.

    For example:

        convscope tutorial --quick
        # on the small digits of scikit-learn, with the page in Korean
        convscope tutorial --data digits --quick --language ko
    """
    import convscope
    from convscope.cli._tables import console

    chosen = one_data(word, data) or "cifar10"
    try:
        done = convscope.tutorial(
            chosen,
            labels=labels,
            quick=quick,
            language=language,
            weights=weights,
            out=out,
            data_dir=data_dir,
            plan_only=plan,
        )
    except KeyboardInterrupt:
        words: list[object] = ["tutorial", "--data", chosen]
        given = (
            ("--labels", labels),
            ("--weights", weights),
            ("--out", out),
            ("--data-dir", data_dir),
        )
        words += ["--quick"] if quick else []
        words += [part for option in given if option[1] is not None for part in option]
        words += [] if language == "en" else ["--language", language]
        typer.echo(
            f"\nStopped. What is finished is kept; resume with: {command_line(*words)}", err=True
        )
        raise typer.Exit(130) from None
    if json:
        from convscope.cli._json import print_json

        print_json(
            {
                "headline": done.headline,
                "page": done.page,
                "steps": done.steps,
                "missing": done.missing,
                "failures": done.failures,
            }
        )
        return
    screen = console()
    if plan:
        _print_plan(done)
        return
    screen.print(done.headline, markup=False)
    for name, reason in done.failures.items():
        screen.print(f"{name} failed: {reason}", markup=False, soft_wrap=True)
    screen.print(f"\npage     {done.page}", markup=False, soft_wrap=True)
    screen.print(f"runs     {done.path}", markup=False, soft_wrap=True)


def _print_plan(planned: "Tutorial") -> None:
    from convscope.cli._tables import NUMBER, TEXT, print_table

    rows = [[step.name, duration(step.expected_s)] for step in planned.steps]
    total = sum(step.expected_s for step in planned.steps)
    rows.append(["in all", duration(total)])
    print_table([("step", TEXT), ("expected on two cores", NUMBER)], rows)
