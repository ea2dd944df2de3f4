"""`convscope compare`: what it refuses before anything is trained."""

import pytest

from convscope.planning.settle import settle_names
from convscope.progress import Progress
from convscope.studies.comparison.arms import folder_name, plan_arms


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name what to compare"),
        (("runs/one",), "name what to compare"),
        (("digits", "--vary", "label_smoothing=0.1"), "--vary label_smoothing=0.1: name values"),
        (("digits", "--vary", "label_smoothing"), "--vary label_smoothing: name values"),
        (
            ("digits", "--vary", "head.hidden=[128,64],[256"),
            "--vary head.hidden=[128,64],[256: the ",
        ),
        (("digits", "--vary", "head.hidden=[128,64]"), "--vary head.hidden=[128,64]: name values"),
        (("digits", "--vary", "=1,2"), "--vary =1,2: name values"),
        (("digits", "more", "--vary", "label_smoothing=0,0.1"), "'more': --models"),
        (
            ("digits", "--data", "mnist", "--vary", "label_smoothing=0,0.1"),
            "the data is given twice: digits and --data mnist; give it once",
        ),
        (("--data", "", "--vary", "label_smoothing=0,0.1"), "--data is empty; give a path"),
        (("digits", "--models", "cnn-functional", "--seeds", ""), "--seeds must be a number"),
        (("digits", "--recipes", "probe,finetune"), "'probe' needs a pretrained backbone; name"),
        (("runs/a", "runs/b", "--set", "judge=best"), "--set is for runs to be trained; finished"),
        (("runs/a", "runs/b", "--seeds", "3"), "--seeds is for runs to be trained; finished"),
        (("runs/a", "runs/b", "--gpus", "1"), "--gpus is for runs to be trained; finished"),
    ],
)
def test_what_is_no_comparison_is_refused_in_a_line(fails, tmp_path, arguments, says):
    assert says in fails(2, "compare", *arguments)
    assert not list(tmp_path.iterdir())


def test_the_test_images_are_asked_for_by_name(cli, monkeypatch):
    given = []

    def compare(*models, **options):
        given.append(options["final"])
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.compare", compare, raising=False)
    monkeypatch.setattr("convscope.compare_runs", compare, raising=False)
    cli("compare", "digits", "--models", "cnn-functional,cnn-sequential")
    cli("compare", "digits", "--models", "cnn-functional,cnn-sequential", "--final")
    cli("compare", "runs/a", "runs/b")
    cli("compare", "runs/a", "runs/b", "--final")
    assert given == [False, True, False, True]


def test_data_is_a_word_or_an_option(cli, monkeypatch):
    given = []

    def compare(*_, **options):
        given.append(options["data"])
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.compare", compare, raising=False)
    monkeypatch.setattr("convscope.compare_runs", compare, raising=False)
    models = ("--models", "cnn-functional,cnn-sequential")
    cli("compare", *models)
    cli("compare", "digits", *models)
    cli("compare", "--data", "digits", *models)
    cli("compare", "runs/a", "runs/b", "--data", "photos")
    assert given == ["cifar10", "digits", "digits", "photos"]


def test_each_value_may_be_a_list_and_names_its_way(cli, monkeypatch):
    given = {}

    def compare(models, **options):
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.compare", compare, raising=False)
    cli(*("compare", "digits", "--vary", "head.hidden=[128, 64],[256],[]"))
    assert given["vary"] == {"head.hidden": [[128, 64], [256], []]}
    requests = plan_arms(
        ["mobilenet_v2"],
        None,
        83,
        "digits",
        None,
        "random",
        {"head.search": False},
        given["vary"],
    )
    configs = {name: settle_names(request, Progress()) for name, request in requests.items()}
    assert {name: config.head.hidden for name, config in configs.items()} == {
        "hidden=[128,64]": (128, 64),
        "hidden=[256]": (256,),
        "hidden=[]": (),
    }
    assert folder_name("digits", configs) == (
        "compare-digits-mobilenet_v2-probe-hidden=-128-64--hidden=-256--hidden=--"
    )
