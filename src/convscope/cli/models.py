"""`convscope models` and `convscope models show`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    ImageSize,
    Json,
    RecipeName,
    Settings,
    picture_option,
    read_settings,
)

app = typer.Typer(invoke_without_command=True)


@app.callback()
def models(context: typer.Context, json: Json = False) -> None:
    """List the models: networks that are trained from scratch, and pretrained backbones.

    A backbone was trained on a million photographs (ImageNet). Its last feature map goes into a new
    head for your classes, which takes less time and fewer images than training from scratch. A
    backbone with more multiply-adds is usually more accurate and slower; twice the image size takes
    four times as many. Small images are enlarged, since a backbone does badly far below its native
    size.

    For example:

        # any backbone of the list, with a new head
        convscope train --model mobilenet_v2
        # cost at a size, trainable parameters, and a picture
        convscope models show mobilenet_v2 --image-size 96
        # for a program
        convscope models --json
    """
    if context.invoked_subcommand is not None:
        return
    from convscope.cli import _models_list
    from convscope.cli._json import print_json

    if json:
        print_json(_models_list.as_json())
    else:
        _models_list.print_lists()


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name from 'convscope models'.")],
    recipe: RecipeName = None,
    image_size: ImageSize = None,
    channels: Annotated[
        int, typer.Option(min=1, max=3, help="Channels of the images: 1 for grey, 3 for RGB.")
    ] = 3,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 10,
    cut: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Last frozen stage of a backbone: its name, end (all is frozen), before-last (all "
            "but the last stage), or start (nothing). Default: the recipe's.",
        ),
    ] = None,
    settings: Settings = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Show each layer of a backbone instead of its stages."),
    ] = False,
    out: Annotated[str | None, picture_option("Picture of the network.")] = None,
    json: Json = False,
) -> None:
    """Show a model: its layers and the arithmetic of each size; with --out draw it.

    The default is CIFAR-10's input: 32 px, RGB, ten classes. The recipe decides the size of the
    input, the head of a backbone, and its trainable part.

    The geometry sheet writes out N_out = floor((N_in + 2p - k)/s) + 1 with the numbers of each
    layer, its receptive field, and its cost; for a backbone by stage, unless --layers is given. No
    weights are needed.

    For example:

        convscope models show cnn-functional --out cnn.png
        # the tutorial's classifier on VGG16
        convscope models show vgg16 --recipe tutorial-transfer
        # trainable parameters when the last stage is fine-tuned
        convscope models show resnet50_v2 --recipe finetune --cut stage3
        # the same with a head with a hidden layer
        convscope models show resnet50_v2 --recipe finetune --set "head.hidden=[128]"
    """
    import convscope
    from convscope.cli import _model_sheet
    from convscope.cli._tables import console
    from convscope.errors import ConfigError
    from convscope.models import is_backbone
    from convscope.models.backbones import BACKBONES
    from convscope.paths import path_or_none
    from convscope.recipes import default_recipe
    from convscope.wording import command_line

    backbone = BACKBONES.get(name) if is_backbone(name) else None
    if cut is not None and backbone is None:
        raise ConfigError(f"--cut is for pretrained backbones; nothing of {name} is frozen")
    given = read_settings(settings)
    if image_size is not None:
        given["image_size"] = image_size
    if cut is not None:
        given["backbone.cut"] = cut
    picture = path_or_none(out, "--out")
    sheet = convscope.describe(
        name,
        recipe=recipe,
        channels=channels,
        n_classes=classes,
        settings=given,
        picture=picture,
    )
    if json:
        from convscope.cli._json import print_json

        print_json({"name": name, **_model_sheet.as_json(sheet), "picture": picture})
        return
    title = f"{name}, {_model_sheet.shape(sheet.image_shape)}, {classes} classes"
    if backbone is not None:
        _model_sheet.print_backbone(backbone)
        title += f", head of the recipe {recipe or default_recipe(backbone=True)}"
    _model_sheet.print_layers(sheet, title)
    if sheet.stages and not layers:
        _model_sheet.print_stages(sheet)
    else:
        _model_sheet.print_geometry(sheet)
    screen = console()
    if picture is not None:
        screen.print(f"\npicture  {picture}", markup=False, soft_wrap=True)
    elif screen.is_terminal:
        again = command_line("models", "show", name, "--out", f"{name}.png")
        typer.echo(f"\nFor a picture of it: {again}", err=True)
