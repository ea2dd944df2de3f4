"""What a comparison says, where the truth is known."""

import dataclasses
import html.parser
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convscope.errors import RunError
from convscope.progress import Progress
from convscope.recipe import RunConfig, dump_config
from convscope.report.page import Page, Points, Section, Table, Text, write_page
from convscope.run import Run
from convscope.storage import write_text
from convscope.studies.comparison.comparison import COMPARISON, Arm, Comparison, Trial, pairs_of
from convscope.studies.comparison.page import comparison_page
from convscope.studies.comparison.study import compare_configs, compare_runs, usual_place
from convscope.studies.comparison.verdicts import chosen, conclude

N_IMAGES = 2000


def answers(seed: int, *accuracies: float, images: np.random.Generator | None = None) -> dict:
    """Return for each accuracy a run that is right on so many images, of one difficulty each."""
    rng = np.random.default_rng(seed)
    hard = (images or np.random.default_rng(1)).random(N_IMAGES)
    return {
        83 + k: hard + rng.normal(0, 0.05, N_IMAGES) < accuracy
        for k, accuracy in enumerate(accuracies)
    }


def arm(name: str, right: dict) -> Arm:
    trials = tuple(
        Trial(f"runs/{name}-{seed}", seed, test_accuracy=float(row.mean()))
        for seed, row in right.items()
    )
    return Arm(name, "cnn-sequential", "tutorial", trials)


@pytest.fixture
def three() -> list[tuple[str, dict]]:
    same = answers(1, 0.70, 0.71, 0.69, 0.705, 0.695)
    better = answers(2, 0.80, 0.81, 0.79, 0.805, 0.795)
    return [("plain", same), ("twin", dict(same)), ("better", better)]


def test_a_true_difference_is_shown_with_its_ends_inside_the_sentence(three):
    pairs = {(pair.first, pair.second): pair for pair in pairs_of(three)}
    pair = pairs["plain", "better"]
    assert pair.found.shown
    assert pair.found.paired
    low, high = 100 * pair.found.low, 100 * pair.found.high
    assert low < 10 < high
    assert pair.verdict == f"better is better than plain by {low:.1f} to {high:.1f} points."
    assert pair.outlook == ""


def test_the_order_of_the_arms_does_not_turn_the_verdict_round(three):
    forward = {frozenset((p.first, p.second)): p.verdict for p in pairs_of(three)}
    backward = {frozenset((p.first, p.second)): p.verdict for p in pairs_of(three[::-1])}
    shown = frozenset(("plain", "better"))
    assert forward[shown] == backward[shown]


def test_one_network_under_two_names_is_called_that(three):
    pair = next(p for p in pairs_of(three) if {p.first, p.second} == {"plain", "twin"})
    assert pair.found.identical
    assert "correct on the same images with each of 5 seeds" in pair.verdict
    assert pair.outlook == ""


def test_where_nothing_differs_the_most_it_could_be_is_said_and_what_would_settle_it():
    two = [("a", answers(1, 0.70, 0.72, 0.71)), ("b", answers(2, 0.71, 0.70, 0.72))]
    (pair,) = pairs_of(two)
    assert not pair.found.shown
    most = 100 * max(abs(pair.found.low), abs(pair.found.high))
    said = float(pair.verdict.split("at most ")[1].split(" points")[0])
    assert most <= said < most + 0.1
    assert "Seeds per configuration needed to show a difference" in pair.outlook
    needed = pair.outlook.split("difference: ")[1]
    told = {float(size): int(n) for n, size in re.findall(r"(\d+) for ([\d.]+) point", needed)}
    assert len(told) >= 1
    # A smaller difference takes more seeds.
    assert [told[size] for size in sorted(told)] == sorted(told.values(), reverse=True)


def compared(*named: tuple[str, dict]) -> Comparison:
    arms = tuple(arm(*each) for each in named)
    return Comparison(Path("x"), "d", N_IMAGES, arms, pairs_of(named))


def test_of_a_run_each_nothing_is_said_about_ways_of_training():
    said = compared(("a", answers(1, 0.70)), ("b", answers(2, 0.78)))
    (pair,) = said.pairs
    low, high = 100 * pair.found.low, 100 * pair.found.high
    assert 0 < low < 8 < high
    assert pair.verdict == (
        "This run of b classifies more test images correctly than this run of a, by "
        f"{low:.1f} to {high:.1f} points."
    )
    assert said.conclusion == (
        f"This run of b has the highest test accuracy ({said.arms[1].accuracy.mean:.1%}), at "
        f"least {low:.1f} points above the other; only several seeds can show which "
        "configuration is best."
    )
    assert "not for the configurations: another seed may reverse it" in said.caution
    assert "other seeds and other images" not in said.caution
    assert pairs_of([("b", answers(2, 0.78)), ("a", answers(1, 0.70))])[0].verdict == pair.verdict


def test_two_runs_that_are_not_told_apart_are_called_runs():
    said = compared(("a", answers(1, 0.70)), ("b", answers(2, 0.70)))
    (pair,) = said.pairs
    assert pair.verdict.startswith(
        "No difference shown between this run of a and this run of b: at most "
    )
    assert said.conclusion.startswith("No difference is shown between the two runs: at most ")
    assert pair.outlook.startswith("Only several seeds of each can separate the configurations")
    twins = compared(("a", answers(1, 0.70)), ("b", answers(1, 0.70)))
    assert twins.pairs[0].verdict == (
        "This run of a and this run of b are correct on the same images: no difference."
    )
    assert twins.conclusion.startswith("Both runs are correct on the same images: ")


def test_one_run_against_several_has_their_spread():
    many = {83: 0.70, 84: 0.71, 85: 0.69, 86: 0.705, 87: 0.695}
    wide = {83: 0.70, 84: 0.75, 85: 0.65, 86: 0.73, 87: 0.67}
    one = ("b", {100: answers(2, 0.75)[83]})
    near, far = (compared(("a", answers(1, *each.values())), one) for each in (many, wide))
    assert near.pairs[0].seeds == far.pairs[0].seeds == (5, 1)
    assert near.pairs[0].verdict.startswith("b is better than a by ")
    assert near.conclusion.startswith("b is best with ")
    assert far.pairs[0].verdict.startswith("No difference shown between a and b: at most ")
    assert "Seeds per configuration needed to show a difference" in far.pairs[0].outlook
    assert "a single seed is assumed to spread over seeds as the one that it is" in near.caution
    assert "another seed may reverse it" not in near.caution


def test_the_best_is_not_called_best_by_a_run_each():
    many = ("many", answers(1, 0.60, 0.61, 0.59, 0.605, 0.595))
    said = compared(many, ("b", answers(2, 0.70)), ("c", answers(3, 0.78)))
    mean = said.arms[2].accuracy.mean
    assert said.conclusion == (
        f"c has the highest test accuracy ({mean:.1%}); a single run each does not show that it is "
        "better than b."
    )
    assert "another seed may reverse it" in said.caution
    assert "a single seed is assumed to spread" in said.caution
    said = compared(many, ("b", answers(2, 0.78)), ("c", answers(3, 0.78)))
    assert said.conclusion.endswith("; no difference to b is shown.") or "to c" in said.conclusion


def test_points_that_are_not_shown_are_not_what_longer_training_buys(tmp_path):
    def told(quick: dict, slow: dict) -> str:
        arms = []
        for name, right, seconds in (("a", quick, 100.0), ("b", slow, 300.0)):
            made = arm(name, right)
            trials = [dataclasses.replace(t, train_seconds=seconds) for t in made.trials]
            arms.append(dataclasses.replace(made, trials=tuple(trials)))
        pairs = pairs_of([("a", quick), ("b", slow)])
        comparison = Comparison(tmp_path, "cifar10", N_IMAGES, tuple(arms), pairs)
        write_page(comparison_page(comparison, {"a": [], "b": []}), comparison.page)
        text = comparison.page.read_text(encoding="utf-8")
        return text.split("b takes 3.0 times as long to train as a, for ")[1].split(".</")[0]

    near = answers(1, 0.70, 0.71, 0.69)
    shown, doubtful = (
        told(near, answers(2, 0.80, 0.81, 0.79)),
        told(near, answers(2, 0.74, 0.7, 0.7)),
    )
    assert float(shown.split(" points more")[0]) == pytest.approx(10, abs=1)
    assert "chance" not in shown
    assert "points more, which is not shown to be more than chance" in doubtful
    # A run each, however far apart, shows no way of training to be better.
    assert "not shown to be more than chance" in told(answers(1, 0.70), answers(2, 0.80))


def test_arms_without_a_judged_run_are_passed_over(three):
    pairs = pairs_of([*three, ("failed", {})])
    assert {name for p in pairs for name in (p.first, p.second)} == {"plain", "twin", "better"}


def test_a_seed_that_failed_on_one_side_is_left_out_on_the_other(three):
    plain, better = dict(three[0][1]), three[2][1]
    del plain[84]
    (pair,) = pairs_of([("plain", plain), ("better", better)])
    assert pair.found.paired
    assert pair.seeds == (4, 4)


def test_runs_without_a_common_seed_are_compared_unpaired(three):
    other = {seed + 100: row for seed, row in three[2][1].items()}
    (pair,) = pairs_of([("plain", three[0][1]), ("better", other)])
    assert not pair.found.paired
    assert pair.seeds == (5, 5)


def test_the_conclusion_names_the_best_only_if_it_is_shown(three):
    arms = [arm(name, right) for name, right in three]
    assert conclude(arms, pairs_of(three)).startswith("better is best with 79.9%")
    equal = [("a", answers(1, 0.70, 0.72, 0.71)), ("b", answers(2, 0.71, 0.70, 0.72))]
    said = conclude([arm(*each) for each in equal], pairs_of(equal))
    assert said.startswith("No difference is shown between the two: at most ")
    twins = three[:2]
    said = conclude([arm(*each) for each in twins], pairs_of(twins))
    assert said == f"Both are correct on the same images: {arms[0].accuracy.mean:.1%} accuracy."
    close = [three[0], *[("b1", answers(5, 0.8, 0.81, 0.79)), ("b2", answers(6, 0.8, 0.8, 0.81))]]
    said = conclude([arm(*each) for each in close], pairs_of(close))
    assert "has the highest test accuracy" in said
    assert said.count("no difference to") == 1
    assert conclude([Arm("a", "m", "r", (Trial("x", 83),))], ()).startswith(
        "None has been evaluated"
    )


def test_the_conclusion_ranks_by_the_seeds_that_the_verdict_is_on():
    # By its third seed alone, which failed for b, a is ahead.
    a, b = answers(1, 0.80, 0.80, 0.99), answers(11, 0.84, 0.84)
    arms, pairs = [arm("a", a), arm("b", b)], pairs_of([("a", a), ("b", b)])
    assert arms[0].accuracy.mean > arms[1].accuracy.mean
    assert pairs[0].verdict.startswith("b is better than a by ")
    said = conclude(arms, pairs)
    assert said.startswith(
        f"b is best with {arms[1].accuracy.mean:.1%} test accuracy over the seeds "
    )
    assert "the seeds that both have, at least " in said
    assert said == conclude(arms[::-1], pairs_of([("b", b), ("a", a)]))


def test_validation_selects_by_the_seeds_that_all_have():
    def of_seeds(name: str, *accuracies: float) -> Arm:
        trials = [Trial("r", 83 + k, val, val - 0.01) for k, val in enumerate(accuracies)]
        return Arm(name, "m", "r", tuple(trials))

    said = chosen((of_seeds("a", 0.80, 0.80, 0.99), of_seeds("b", 0.84, 0.84)))
    assert said.startswith(
        "Validation accuracy selects b (84.0% over the seeds that both have); its"
    )


@pytest.mark.parametrize(
    ("least", "points", "in_verdict"),
    [
        (0.0499, "4.9", "5.0"),
        (0.001, "0.1", "0.1"),
        (0.0003, "0.03", "0.03"),
        (0.00061, "0.06", "0.06"),
        (0.0000049, "0.0004", "0.0005"),
    ],
)
def test_a_lead_that_is_shown_is_never_said_to_be_0(three, least, points, in_verdict):
    arms = [arm(name, right) for name, right in three[1:]]
    (pair,) = pairs_of(three[1:])
    found = dataclasses.replace(pair.found, low=least)
    close = dataclasses.replace(pair, found=found)
    assert conclude(arms, [close]).endswith(f", at least {points} points above the other.")
    assert f" by {in_verdict} to " in close.verdict


def test_more_seeds_after_a_look_are_owned_up_to(three):
    arms = tuple(arm(name, right) for name, right in three)
    one_look = Comparison(Path("x"), "d", N_IMAGES, arms, pairs_of(three), looks=(5,))
    two_looks = dataclasses.replace(one_look, looks=(3, 5))
    assert "look at the result" not in one_look.caution
    assert "Seeds were added after a look at the result (after 3)" in two_looks.caution


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        (((1, 2),), []),
        (((1, 2), (1, 2, 3)), ["Seeds were added after a look at the result (after 2), which"]),
        ((2, (1, 2, 3)), ["Seeds were added after a look at the result (after 2), which"]),
        (((1, 2), (3, 4)), ["The result of other seeds was looked at before (1 and 2), which"]),
        (
            ((1, 2), (3, 4), (3, 4, 5)),
            [
                "Seeds were added after a look at the result (after 2), which",
                "The result of other seeds was looked at before (1 and 2), which",
            ],
        ),
    ],
)
def test_each_look_at_other_seeds_is_owned_up_to(three, looks, said):
    arms = tuple(arm(name, right) for name, right in three)
    caution = Comparison(Path("x"), "d", 9, arms, pairs_of(three), looks=looks).caution
    assert all(words in caution for words in said)
    assert caution.count("chance difference is taken for a true one") == len(said)


class Outline(html.parser.HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name: str) -> list[dict]:
        return [attrs for tag, attrs in self.tags if tag == name]


def test_the_page_holds_everything_and_asks_the_network_for_nothing(three, tmp_path):
    arms = [arm(name, right) for name, right in three]
    failed = Trial("runs/b-99", 99, failure="the loss is nan <in epoch 1>")
    arms[2] = dataclasses.replace(
        arms[2], trials=(*arms[2].trials, failed), latency_ms=2.5, multiply_adds=41_000_000
    )
    comparison = Comparison(tmp_path, "cifar10", N_IMAGES, tuple(arms), pairs_of(three))
    curves = {"plain": [[0.4, 0.6], [0.5]], "twin": [], "better": [[0.7, 0.8]]}
    page = comparison_page(comparison, curves)
    write_page(page, comparison.page)
    outline = Outline(comparison.page.read_text(encoding="utf-8"))
    for pair in comparison.pairs:
        assert pair.verdict in outline.text
    assert comparison.conclusion in outline.text
    assert "the loss is nan <in epoch 1>" in outline.text  # escaped, or it would be a tag
    pictures = outline.all("img")
    assert len(pictures) == 3
    for picture in pictures:
        assert picture["src"].startswith("data:image/svg+xml;base64,")
        assert len(picture["alt"]) > 40
    for attrs in (attrs for _, attrs in outline.tags):
        for key in ("src", "href"):
            assert attrs.get(key, "data:").startswith("data:")
    assert not outline.all("script")
    assert not outline.all("link")


@pytest.mark.parametrize("grouped", [False, True])
def test_the_page_names_the_tests_that_were_made(grouped, three, tmp_path):
    groups = None
    if grouped:
        groups = np.repeat([f"{number}" for number in range(N_IMAGES // 20)], 20)
    arms = tuple(arm(name, right) for name, right in three)
    comparison = Comparison(tmp_path, "cifar10", N_IMAGES, arms, pairs_of(three, groups=groups))
    write_page(comparison_page(comparison, {name: [] for name, _ in three}), comparison.page)
    said = Outline(comparison.page.read_text(encoding="utf-8")).text
    assert ("McNemar's exact test" in said) == (not grouped)
    assert ("over images alone Student's test over their groups" in said) == grouped
    assert ("standard error of the difference over other groups of images" in said) == grouped


def test_no_way_is_called_best_where_all_are_equal(three, tmp_path):
    arms = []
    for seconds, (name, right) in zip((170.1, 170.2), three[:2], strict=True):
        trials = [dataclasses.replace(t, train_seconds=seconds) for t in arm(name, right).trials]
        arms.append(dataclasses.replace(arm(name, right), trials=tuple(trials), latency_ms=1.0))
    comparison = Comparison(tmp_path, "cifar10", N_IMAGES, tuple(arms), pairs_of(three[:2]))
    curves = {"plain": [[0.4, 0.6]], "twin": [[0.4, 0.6001]]}
    write_page(comparison_page(comparison, curves), comparison.page)
    text = comparison.page.read_text(encoding="utf-8")
    assert "All reach the same accuracy: 60.0% of the validation images after epoch 2." in text
    assert "All train in about 3 min." in text
    assert 'class="best"' not in text


def test_what_a_page_shows_is_text_wherever_it_comes_from(tmp_path):
    nasty = '<script>alert("x")</script>'
    sections = [
        Section(nasty, [Text(nasty), Points([(nasty, nasty)]), Table([nasty], [[nasty]], nasty)])
    ]
    write_page(Page(nasty, nasty, nasty, sections, nasty), tmp_path / "page.html")
    outline = Outline((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not outline.all("script")
    # The title twice, about, verdict, caution, heading; a text, two of a point, three of a table.
    assert outline.text.count(nasty) == 12


def judged_by_val(name: str, val: float, test: float | None = None, part: str = "val") -> Arm:
    return Arm(name, "m", "r", (Trial("runs/r", 83, val_accuracy=val, test_accuracy=test),), part)


def test_what_validation_images_say_is_called_by_their_name(three):
    pairs = pairs_of(three, "val")
    arms = tuple(
        Arm(
            name,
            "m",
            "r",
            tuple(Trial("r", s, val_accuracy=float(row.mean())) for s, row in right.items()),
            "val",
        )
        for name, right in three
    )
    said = Comparison(Path("x"), "digits", N_IMAGES, arms, pairs, (5,))
    assert "validation accuracy" in said.conclusion
    assert said.about.endswith("evaluated on 2,000 validation images")
    assert "not one to report; for that, --final opens the test images" in said.caution
    page = comparison_page(said, {})
    words = repr(page).replace("opens the test images", "")
    for never in ("test accuracy", "Test accuracy", "test images"):
        assert never not in words
    assert "Validation accuracy" in words


def test_single_runs_and_too_few_images_are_of_their_part(three):
    name, right = three[0]
    better = three[2][1]
    (pair,) = pairs_of([(name, {83: right[83]}), ("better", {83: better[83]})], "val")
    assert "classifies more validation images correctly" in pair.verdict
    other = answers(5, 0.70, 0.71, 0.69, 0.70, 0.70, images=np.random.default_rng(9))
    (level,) = pairs_of([(name, right), ("level", other)], "val")
    assert "validation images are too few" in level.outlook


def test_the_number_at_the_end_is_that_of_the_way_that_validation_images_choose():
    arms = (
        judged_by_val("a", 0.70, 0.695, "test"),
        judged_by_val("b", 0.72, 0.690, "test"),
        judged_by_val("c", 0.71, 0.730, "test"),
    )
    assert chosen(arms) == (
        "Validation accuracy selects b (72.0%); its accuracy on the test images, which had no "
        "part in that choice, is 69.0%."
    )
    # Before the end, of one alone, and where they choose none, nothing is said.
    assert chosen((judged_by_val("a", 0.7), judged_by_val("b", 0.8))) == ""
    assert chosen(arms[:1]) == ""
    twins = (judged_by_val("a", 0.7, 0.7, "test"), judged_by_val("b", 0.7, 0.7, "test"))
    assert chosen(twins) == ""


def test_a_page_in_progress_ranks_nothing(tmp_path):
    arms = (judged_by_val("a", 0.7), judged_by_val("b", 0.8))
    said = Comparison(Path("x"), "digits", N_IMAGES, arms)
    assert said.conclusion == "Not every run has been trained yet."
    # Costs that are not measured yet have no ticks, and none as raw text.
    write_page(comparison_page(said, {}), tmp_path / "page.html")
    assert "mathdefault" not in (tmp_path / "page.html").read_text()


def test_a_comparison_is_read_as_it_was_written(three, tmp_path):
    arms = tuple(arm(name, right) for name, right in three)
    found = Comparison(tmp_path, "some", N_IMAGES, arms, pairs_of(three), (5, (3, 4)))
    state = {
        **{"format": 1, "data": "some", "n_images": N_IMAGES},
        **{"part": "test", "looks": [5, [3, 4]], "val_looks": []},
        "arms": [dataclasses.asdict(each) for each in arms],
        "pairs": [dataclasses.asdict(pair) for pair in found.pairs],
    }
    Run.write_json(found.state_file, state)
    again = Comparison.read(tmp_path)
    assert again == found
    assert again.conclusion == found.conclusion
    Run.write_json(found.state_file, {**state, "format": 2})
    with pytest.raises(RunError, match="by another version of convscope"):
        Comparison.read(tmp_path)
    found.state_file.unlink()
    with pytest.raises(RunError, match="holds no comparison"):
        Comparison.read(tmp_path)


@pytest.fixture
def two_runs(tmp_path) -> list[Path]:
    runs = []
    for epochs in (1, 2):
        run = Run(tmp_path / f"run{epochs}")
        write_text(run.config_file, dump_config(RunConfig(epochs=epochs)))
        write_text(run.split_file, "id,label,class_name,split,sha256_16\na,0,cat,val,00\n")
        run.record(status="finished")
        runs.append(run.path)
    return runs


def test_a_comparison_of_the_other_kind_is_called_that_and_left_alone(
    two_runs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    configs = {f"epochs={n}": RunConfig(epochs=n) for n in (1, 2)}
    dataset = SimpleNamespace(name="cifar10", provenance={}, val=SimpleNamespace(labels=[0]))
    COMPARISON.write(tmp_path / "finished", {"asked": {"runs": ["a", "b"]}})
    COMPARISON.write(tmp_path / "trained", {"asked": {"content": None, "ways": {}}})
    with pytest.raises(RunError, match=r"finished holds a comparison of finished runs; choose ano"):
        compare_configs(configs, dataset, tmp_path / "finished", [83], progress=Progress())
    with pytest.raises(RunError, match=r"trained holds a comparison of runs that it trains itself"):
        compare_runs(two_runs, out=tmp_path / "trained", progress=Progress())
    # Without --out, the usual folder is taken only by its own kind.
    usual = Path("runs/compare-cifar10")
    assert usual_place(usual) == usual
    COMPARISON.write(usual, {"asked": {"content": None, "ways": {}}})
    assert usual_place(usual) == usual
    COMPARISON.write(usual, {"asked": {"runs": ["a", "b"]}})
    assert usual_place(usual) == Path("runs/compare-cifar10-2")
