"""`convscope tutorial`: what it hands on, what it prints, how it stops."""

import json
from pathlib import Path

import convscope
from convscope.studies.tutorial.facts import Step
from convscope.studies.tutorial.study import Tutorial

STEPS = (Step("cnn-functional", 90.0, 83), Step("", 20.0), Step("VGG16", 3_000.0))
DONE = Tutorial(Path("somewhere"), STEPS, failures={"vgg16": "no [bold] luck"}, headline="All well")


def test_options_reach_the_verb_and_the_page_is_named(cli, monkeypatch):
    given = {}

    def tutorial(data, **options):
        given.update(options, data=data)
        return DONE

    monkeypatch.setattr(convscope, "tutorial", tutorial)
    done = cli("tutorial", "digits", "--quick", "--language", "ko", "--weights", "w", "--out", "o")
    assert done.code == 0, done.err
    assert given == {
        **{"data": "digits", "labels": None, "quick": True, "language": "ko", "weights": "w"},
        **{"out": "o", "data_dir": None, "plan_only": False},
    }
    assert "All well" in done.out
    assert "vgg16 failed: no [bold] luck" in done.out
    assert "somewhere/tutorial.html" in done.out


def test_the_plan_is_a_table_with_its_sum(cli, monkeypatch):
    monkeypatch.setattr(convscope, "tutorial", lambda data, **options: DONE)
    done = cli("tutorial", "--plan")
    rows = [line.split("  ") for line in done.out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["cnn-functional, seed 83", "90 s"] in cells
    assert ["comparison of the styles", "20 s"] in cells
    assert ["ladder of VGG16", "50 min"] in cells
    assert ["in all", "52 min"] in cells
    assert json.loads(cli("tutorial", "--plan", "--json").out)["steps"][2]["subject"] == "VGG16"


def test_ctrl_c_says_how_to_go_on(cli, monkeypatch):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(convscope, "tutorial", stopped)
    done = cli("tutorial", "--data", "my photos", "--quick", "--language", "ko", "--out", "here")
    assert done.code == 130
    assert done.err == (
        "\nStopped. What is finished is kept; resume with: convscope tutorial --data 'my photos' "
        "--quick --out here --language ko\n"
    )


def test_a_mistake_is_one_line_and_leaves_nothing_behind(fails):
    message = fails(2, "tutorial", "--data", "digits", "--language", "fr")
    assert "unknown language 'fr'" in message
    message = fails(2, "tutorial", "--data", "digits", "--weights", "nowhere")
    assert "no weights at" in message
    assert list(Path.cwd().iterdir()) == []
