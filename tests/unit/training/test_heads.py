import csv
import json

import numpy as np
import pytest

from convscope import backend
from convscope.models.head import feature_statistics
from convscope.progress import Progress
from convscope.recipe import HeadSettings, Recipe, resolve
from convscope.run import Run
from convscope.training import heads
from convscope.training.batches import Examples
from convscope.training.heads import CANDIDATES, choose_head


@pytest.fixture(autouse=True, scope="module")
def set_up():
    backend.configure()


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run.create(tmp_path / "run", "run")
    run.record(status="created")
    return run


def examples(n, *, ring: bool) -> Examples:
    """Two classes: apart, or one around the other, which no straight line divides."""
    # Not from a generator that the tests share: what ran before would be part of the result.
    rng = np.random.default_rng(n)
    labels = np.arange(n) % 2
    if ring:
        angle = rng.uniform(0, 2 * np.pi, n)
        radius = np.where(labels, 3.0, 0.5) + rng.normal(0, 0.1, n)
        features = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    else:
        features = rng.normal(0, 0.3, (n, 2)) + np.where(labels, 2.0, -2.0)[:, None]
    return Examples(lambda epoch: features.astype("float32"), labels)


def config(**changes):
    return resolve(
        Recipe(),
        {
            "head": {"search": True, "standardise": True},
            "batch_size": 32,
            "optimizer.learning_rate": 0.01,
            **changes,
        },
    )


def choose(run, settings, *, ring=True, progress=None) -> HeadSettings:
    train, val = examples(1024, ring=ring), examples(256, ring=ring)
    statistics = feature_statistics(train.inputs(0))
    return choose_head(settings, train, val, statistics, 2, run, progress or Progress())


def tried(run) -> list[dict[str, str]]:
    with run.heads_file.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_without_a_search_the_head_is_as_configured(run):
    settings = config(**{"head.search": False, "head.hidden": [7], "head.dropout": 0.2})
    assert choose(run, settings) == settings.head
    assert not run.heads_file.exists()
    assert "head" not in run.state


def test_what_no_line_divides_gets_a_hidden_layer(run):
    settings = config(**{"head.pooling": "flatten"})
    head = choose(run, settings)
    rows = tried(run)
    assert [row["hidden"] for row in rows] == ["linear", "512", "1024"]
    accuracies = [float(row["val_accuracy"]) for row in rows]
    assert accuracies[0] < 0.75  # The best line is right on 0.71 of them.
    assert max(accuracies) > 0.95
    best = CANDIDATES[int(np.argmax(accuracies))]
    assert (head.hidden, head.dropout) == (best["hidden"], best["dropout"])
    # The rest is as configured, and a resumed run does not search again.
    assert (head.pooling, head.standardise, head.search) == ("flatten", True, False)
    assert json.loads(run.state_file.read_text())["head"] == json.loads(head.model_dump_json())


def test_of_equals_the_simplest_wins(run):
    assert choose(run, config(), ring=False).hidden == ()
    assert {row["val_accuracy"] for row in tried(run)} == {"1.0"}


def test_a_choice_that_was_made_is_not_made_again(run, monkeypatch):
    first = choose(run, config())
    before = run.heads_file.stat().st_mtime_ns

    def never(*_, **__):
        raise AssertionError("searched again")

    monkeypatch.setattr(heads, "_try", never)
    assert choose(run, config()) == first
    assert run.heads_file.stat().st_mtime_ns == before


def test_the_same_seed_makes_the_same_choice_to_the_last_digit(run, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "CANDIDATES", CANDIDATES[:2])
    other = Run.create(tmp_path / "other", "other")
    other.record(status="created")
    train, val = examples(256, ring=True), examples(128, ring=True)
    statistics = feature_statistics(train.inputs(0))
    for each in (run, other):
        choose_head(config(), train, val, statistics, 2, each, Progress())
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in tried(each)]
        for each in (run, other)
    ]
    assert timeless[0] == timeless[1]


def test_progress_tells_of_each_try_and_of_the_winner(run):
    said, steps = [], []

    class Told(Progress):
        def say(self, text):
            said.append(text)

        def task(self, label, total, unit):
            import contextlib

            assert (label, total, unit) == ("Choosing a head", 3, "heads")
            return contextlib.nullcontext(lambda n, note="": steps.append((n, note)))

    choose(run, config(), progress=Told())
    assert [n for n, _ in steps] == [1, 1, 1]
    assert steps[0][1].startswith("linear: val accuracy 0.")
    assert said[-1].startswith("Head: ")
    assert "the best of 3 on the validation images" in said[-1]
