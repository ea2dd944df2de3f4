"""Which candidates a search tries, how long it goes on, and which of them it takes."""

from types import SimpleNamespace

import numpy as np
import pytest

from convscope.errors import ConfigError, RunError, TrainingError
from convscope.planning.settle import Request
from convscope.progress import Progress
from convscope.run import Run
from convscope.studies.executor import Job, Outcome
from convscope.studies.search import auto, candidates, clock, results
from convscope.studies.search.search import Place, Search
from convscope.studies.train import _wants_search

FOLDER = {"data": "folder", "data_path": "/photos"}


@pytest.mark.parametrize(
    ("given", "minutes", "wanted"),
    [
        (FOLDER, None, True),
        (FOLDER, 3, True),
        ({**FOLDER, "recipe": "auto"}, None, True),
        ({**FOLDER, "model": "mobilenet_v2", "recipe": "auto"}, None, True),
        ({**FOLDER, "model": "mobilenet_v2"}, 3, True),
        ({**FOLDER, "model": "mobilenet_v2"}, None, False),
        ({**FOLDER, "model": "cnn-functional"}, 3, False),
        ({**FOLDER, "recipe": "tutorial"}, None, False),
        ({**FOLDER, "weights": "random"}, None, False),
        ({"data": "digits"}, 3, False),
        ({}, None, False),
    ],
)
def test_a_folder_with_no_recipe_named_is_searched(given, minutes, wanted):
    assert _wants_search(given, {}, minutes) is wanted


def test_without_a_pretrained_network_at_hand_nothing_is_searched(monkeypatch):
    monkeypatch.setattr("convscope.models.weights.weights_at_hand", lambda backbone: None)
    assert not _wants_search(FOLDER, {}, None)


@pytest.mark.parametrize(
    ("minutes", "given", "message"),
    [
        (0, {}, "--minutes must be above 0"),
        (float("nan"), {}, "--minutes must be above 0"),
        (5, {"epochs": 3}, "the search chooses the epochs"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_looked_up(minutes, given, message):
    def load(config):
        raise AssertionError("loaded")

    with pytest.raises(ConfigError, match=message):
        auto.search(
            Request(given), minutes=minutes, out=None, test=True, load=load, progress=Progress()
        )
    if given:
        with pytest.raises(ConfigError, match=message):
            auto.search(
                Request({}, given),
                minutes=minutes,
                out=None,
                test=True,
                load=load,
                progress=Progress(),
            )


class Listening(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Labelled:
    """Images of which only number and labels count."""

    def __init__(self, n_images: int) -> None:
        self.labels = np.arange(n_images) % 2
        self.groups = None

    def __len__(self) -> int:
        return len(self.labels)


@pytest.fixture
def searched(monkeypatch, tmp_path):
    """A function that searches among made-up losses, with a clock that counts trainings."""

    def search(
        losses,
        *,
        minutes: float = 60,
        n_val: int = 40,
        folds=5,
        given=(),
        resumed=False,
        executor=None,
        side: int = 224,
        data: str = "folder",
        loading: float = 0.0,
    ):
        now = [0.0]
        monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(clock, "_START_S", 1.0)

        def train(self, candidate, run, fold):
            now[0] += 10.0
            search.settings[candidate.name] = candidate.settings
            if candidate.name == search.too_large:
                raise MemoryError("Unable to allocate 9 GiB")
            if losses.get(candidate.name, [None])[fold] is None:
                raise TrainingError("it diverged")
            run.path.mkdir(parents=True)
            held_out = search.held_out.get(candidate.name, losses[candidate.name][0])
            noise = np.random.default_rng(sum(map(ord, candidate.name))).normal(0, 0.3, 4 * n_val)
            here = 0.0 if search.from_cache else search.feature_seconds
            times = {"feature_seconds": search.feature_seconds, "feature_seconds_here": here}
            run.record(status="finished", rolled_back=candidate.name in search.undone, **times)
            if not search.given_penalty:
                values = (held_out + noise - noise.mean()).astype(np.float32)
                np.save(run.held_out_file, values[: search.n_held_out])

        def losses_of(run):
            if run.name == search.unreadable:
                raise RunError("its predictions are damaged")
            name, _, fold = run.name.partition("-fold")
            noise = np.random.default_rng(sum(map(ord, run.name))).normal(0, 0.3, n_val)
            values = losses[name][int(fold or 1) - 1] + noise - noise.mean()
            return results.Judged(values.astype(np.float32), float((values < 1).mean()), None)

        def job_of(self, candidate, fold):
            run = candidates.folder_of(self.run, candidate.name, fold)
            return Job(lambda: train(self, candidate, run, fold), run.path)

        monkeypatch.setattr(Search, "_train", train)
        monkeypatch.setattr(Search, "_job_of", job_of)
        monkeypatch.setattr(
            "convscope.models.weights.weights_at_hand", lambda backbone: search.at_hand or None
        )
        monkeypatch.setattr(results, "measured", losses_of)

        dataset = SimpleNamespace(
            class_names=("a", "b"), image_shape=(side, side, 3), train=Labelled(4 * n_val)
        )
        dataset.validation, dataset.test = range(n_val), None
        config = SimpleNamespace(
            data=data, model="efficientnet_lite0", image_size=224, multi_label=False
        )
        config.split = SimpleNamespace(folds=folds)
        plan = SimpleNamespace(config=config, dataset=dataset)
        told = Listening()
        if not resumed:
            search.run = Run(tmp_path / f"{minutes:g}")
            search.state = {"format": 1, "test": False, "tried": []}
        search.state["loading_seconds"] = loading
        run, state = search.run, search.state
        state["minutes"] = minutes
        place = Place(executor)
        work = Search(run, Request(dict(given)), state, plan, None, 0.0, told, place)
        return work.best(), [(row["candidate"], row["fold"]) for row in state["tried"]], told.lines

    search.settings, search.held_out, search.given_penalty = {}, {}, False
    search.n_held_out = search.unreadable = None
    search.from_cache, search.too_large, search.undone = False, None, ()
    search.at_hand, search.feature_seconds = "efficientnet-lite2.pth", 4.0
    return search


class AtOnce:
    """An executor that ends its jobs in another order than they were given."""

    def __init__(self, at_once):
        self.at_once = at_once
        self.groups = []

    def outcomes(self, jobs, progress, unwanted=None):
        self.groups.append([job.folder.name for job in jobs])
        for job in reversed(jobs):
            try:
                job.config()
                yield job, Outcome(Run(job.folder))
            except TrainingError as error:
                yield job, Outcome(Run(job.folder), str(error), permanent=True)


CLEAR = {
    "frozen": [0.9] * 5,
    "mirrored": [0.8] * 5,
    "fine-tuned": [0.3] * 5,
    **{name: [0.9] * 5 for name in candidates.LARGER},
}
# Where the larger network does not help, the next smaller one is tried.
ALL = [("frozen", 0), ("larger", 0), ("larger-3", 0), ("mirrored", 0), ("fine-tuned", 0)]
PAIR = {"model": "efficientnet_lite1_2", "image_size": 240}
LITE2 = {"model": "efficientnet_lite2"}
GOOD_LARGER = {**CLEAR, "larger": [0.5] * 5, "mirrored": [0.45] * 5}


def network_of(settings):
    return {key: settings[key] for key in PAIR if key in settings}


def test_fine_tuning_that_was_undone_does_not_compete_with_the_head_that_it_is_again(searched):
    close = {**CLEAR, "mirrored": [0.8] * 5, "fine-tuned": [0.8] * 5}
    assert ("fine-tuned", 1) in searched(close, n_val=8)[1]
    searched.undone = ("fine-tuned",)
    best, tried, _ = searched(close, minutes=61, n_val=8)
    assert best == "mirrored"
    assert ("fine-tuned", 1) not in tried


def test_a_later_candidate_that_does_not_fit_into_memory_ends_nothing(searched):
    searched.too_large = "larger"
    best, tried, told = searched(CLEAR)
    assert (best, tried) == ("fine-tuned", ALL)
    assert "  failed: not enough memory (Unable to allocate 9 GiB)" in told
    # Without the first there is nothing to go on with.
    searched.too_large = "frozen"
    with pytest.raises(MemoryError):
        searched(CLEAR, minutes=61)


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_digits_are_not_mirrored_unless_it_is_asked_for(searched, data):
    best, tried, _ = searched(CLEAR, data=data)
    assert best == "fine-tuned"
    assert ("mirrored", 0) not in tried
    assert searched.settings["fine-tuned"]["augment.flip"] is False
    assert ("mirrored", 0) in searched(CLEAR, minutes=61, data=data, given={"augment.flip": True})[
        1
    ]


def test_a_clear_winner_is_taken_at_once(searched):
    best, tried, _ = searched(CLEAR)
    assert (best, tried) == ("fine-tuned", ALL)
    best, _, told = searched({**CLEAR, "larger": [0.1] * 5}, minutes=61)
    assert best == "larger"
    assert told[-1].endswith("frozen; it takes 3.2 times as long per image as the first candidate")


def test_what_comes_after_it_is_of_the_better_network(searched):
    searched(CLEAR)
    for name, network in [
        ("frozen", {}),
        ("larger", PAIR),
        ("larger-3", LITE2),
        ("mirrored", {}),
        ("fine-tuned", {}),
    ]:
        assert network_of(searched.settings[name]) == network
    searched(GOOD_LARGER, minutes=61)
    for name in ("larger", "mirrored"):
        assert network_of(searched.settings[name]) == PAIR
    assert searched.settings["mirrored"]["backbone.views"] == 2
    # A pair is not fine-tuned: the best single network is.
    assert network_of(searched.settings["fine-tuned"]) == {}
    searched({**GOOD_LARGER, "larger": [0.9] * 5, "larger-3": [0.5] * 5}, minutes=62)
    assert network_of(searched.settings["fine-tuned"]) == LITE2


@pytest.mark.parametrize(
    ("given", "at_hand", "network"),
    [
        ({}, True, PAIR),
        ({}, False, {"image_size": 288}),
        ({"model": "efficientnet_lite0"}, True, {"image_size": 288}),
        ({"weights": "my.h5"}, True, {"image_size": 288}),
        ({"image_size": 224}, True, {"model": "efficientnet_lite1_2"}),
        ({"model": "efficientnet_lite0", "image_size": 224}, True, None),
    ],
)
def test_what_the_user_chose_stays(searched, given, at_hand, network):
    searched.at_hand = at_hand
    _, tried, _ = searched(CLEAR, given=given)
    assert (("larger", 0) in tried) == (network is not None)
    if network is not None:
        assert network_of(searched.settings["larger"]) == network


def test_heads_on_a_frozen_backbone_compare_on_training_images_that_they_had_not_learnt(searched):
    heads = {"frozen": [0.8] * 5, "mirrored": [0.9] * 5, "larger": [0.7] * 5}
    assert searched(heads)[0] == "larger"
    searched.held_out = {"larger": 0.85}
    assert searched(heads, minutes=61)[0] == "frozen"


def test_the_lowest_loss_wins_and_of_equal_ones_the_quicker_network(searched):
    heads = {"frozen": [0.8] * 5, "mirrored": [0.9] * 5, "larger": [0.8] * 5}
    assert searched(heads)[0] == "frozen"
    heads["larger"] = [0.79] * 5
    assert searched(heads, minutes=61)[0] == "larger"
    # Between two larger ones too.
    heads["larger-3"] = [0.78] * 5
    assert searched(heads, minutes=62)[0] == "larger-3"
    heads["larger-3"] = [0.79] * 5
    assert searched(heads, minutes=63)[0] == "larger-3"


def test_with_a_penalty_of_the_user_heads_compare_on_validation_images_alone(searched):
    searched.given_penalty = True
    heads = {"frozen": [0.8] * 5, "mirrored": [0.95] * 5, "larger": [0.3] * 5}
    assert searched(heads)[0] == "larger"
    # As with losses of other images in the place of theirs.
    searched.given_penalty, searched.n_held_out = False, 7
    searched.held_out = {"larger": 2.0}
    assert searched(heads, minutes=61)[0] == "larger"


@pytest.mark.parametrize("losses", [CLEAR, GOOD_LARGER])
def test_mirrored_images_that_were_tried_keep_their_network(searched, losses):
    # There was no time for the larger network, so they are of the first.
    searched.feature_seconds = 8.0
    assert searched(losses, minutes=0.44, n_val=8)[1] == [ALL[0], ALL[3]]
    assert network_of(searched.settings["mirrored"]) == {}
    close = {**losses, "fine-tuned": [losses["mirrored"][0]] * 5}
    _, tried, _ = searched(close, minutes=60, n_val=8, resumed=True)
    assert tried.count(("mirrored", 0)) == tried.count(("larger", 0)) == 1
    assert ("mirrored", 1) in tried
    assert network_of(searched.settings["mirrored"]) == {}


SCRATCH = ("from-scratch", 0)


@pytest.mark.parametrize(
    ("loss", "best", "tried"),
    [
        (0.1, "from-scratch", [ALL[0], SCRATCH]),
        (2.0, "fine-tuned", [ALL[0], SCRATCH, *ALL[1:]]),
        # Which is better is not clear, so what else fits is tried too.
        (0.88, "fine-tuned", [ALL[0], SCRATCH, *ALL[1:]]),
    ],
)
def test_on_many_small_images_a_network_from_random_weights_is_tried_too(
    searched, loss, best, tried
):
    found = searched({**CLEAR, "from-scratch": [loss] * 5}, n_val=300, side=64)
    assert found[:2] == (best, tried)
    assert searched.settings["from-scratch"] == {"recipe": "fast"}
    assert "train a network from scratch" in found[2][1]


def test_a_network_from_random_weights_is_not_tried_where_it_is_of_no_use(searched):
    losses = {**CLEAR, "from-scratch": [0.1] * 5}
    for number, kind in enumerate(
        [
            {"n_val": 200, "side": 64},
            {"n_val": 300, "side": 65},
            {"n_val": 300, "side": 64, "given": {"model": "efficientnet_lite0"}},
            {"n_val": 300, "side": 64, "given": {"weights": "my.h5"}},
            # It is trained in as much time as is left, which is known in this process alone.
            {"n_val": 300, "side": 64, "executor": AtOnce(1)},
        ]
    ):
        _, tried, told = searched(losses, minutes=60 + number, **kind)
        assert SCRATCH not in tried
        assert "from scratch" not in told[1]
    _, tried, told = searched(losses, minutes=0.5, n_val=300, side=64)
    assert SCRATCH not in tried
    assert "lack of time: a network from scratch" in told[-2]


def test_a_network_from_random_weights_that_fails_ends_nothing(searched):
    best, tried, _ = searched({**CLEAR, "from-scratch": [None]}, n_val=300, side=64)
    assert (best, tried) == ("fine-tuned", [ALL[0], SCRATCH, *ALL[1:]])


@pytest.mark.parametrize(
    ("minutes", "helpful", "tried"),
    [
        (60, (), ["larger", "larger-3"]),  # not the same network at a smaller size
        (60, ("larger",), ["larger"]),
        (60, ("larger-3",), ["larger", "larger-3"]),
        (0.77, (), ["larger-2", "larger-3"]),  # no time for the largest
        (0.5, (), ["larger-3"]),
    ],
)
def test_the_largest_network_that_fits_is_tried_then_a_smaller_one(
    searched, minutes, helpful, tried
):
    searched.feature_seconds = 6.0
    losses = {**CLEAR, **{name: [0.5] * 5 for name in helpful}}
    found = searched(losses, minutes=minutes)[1]
    assert [name for name, fold in found if name.startswith("larger") and fold == 0] == tried
    # Resumed, what stands is not tried again, nor is anything of it forgotten.
    found = searched(losses, minutes=minutes, resumed=True)[1]
    assert len(set(found)) == len(found)


def test_images_are_used_at_the_size_that_is_decoded_where_decoding_takes_too_long(searched):
    searched.feature_seconds = 6.0
    for number, (loading, tried) in enumerate(
        [(0.0, "larger"), (40.0, "larger"), (60.0, "larger-2"), (1_000.0, "larger-2")]
    ):
        found = searched(CLEAR, minutes=1.5 + number / 1e3, loading=loading)[1]
        assert found[1] == (tried, 0)


def test_the_longest_loading_counts(monkeypatch):
    now = iter([0.0, 7.0, 7.0, 8.0])
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(now))
    load = clock.TimedLoading(lambda config: config)
    assert (load("a"), load("b"), load.seconds) == ("a", "b", 7.0)


def test_at_a_size_of_the_user_each_larger_network_is_tried_once(searched):
    found = searched(CLEAR, given={"image_size": 224})[1]
    larger = [name for name, fold in found if name.startswith("larger") and fold == 0]
    assert larger == ["larger", "larger-2"]
    assert network_of(searched.settings["larger-2"]) == LITE2


def test_close_ones_are_compared_on_further_folds_and_all_of_them_count(searched):
    close = {"frozen": [0.9] * 5, "mirrored": [0.50, 0.3, 0.3, 0.3, 0.3], "fine-tuned": [0.49] * 5}
    best, tried, told = searched(close)
    assert best == "mirrored"
    assert tried[: len(ALL)] == ALL
    assert {("mirrored", 1), ("fine-tuned", 1)} <= set(tried[5:8])
    # Another lost by a lot on the first fold, and is not tried again.
    assert ("frozen", 1) not in tried
    assert any("are close: training both again with fold 2 of 5" in line for line in told)


@pytest.mark.parametrize("failing", [("mirrored",), ("fine-tuned",), ("mirrored", "fine-tuned")])
def test_a_further_fold_that_fails_counts_for_none(searched, failing):
    close = {"frozen": [0.9] * 5, "mirrored": [0.50] + [0.9] * 4, "fine-tuned": [0.51] * 5}
    for name in failing:
        close[name][1] = None
    best, tried, _ = searched(close)
    # By the first fold, and no time is spent on others.
    assert best == "mirrored"
    assert max(fold for _, fold in tried) == 1


def test_only_the_winner_is_refitted(monkeypatch):
    asked = []
    monkeypatch.setattr("convscope.studies.search.search.settle", lambda it, *_: asked.append(it))
    for given, from_file in (({"refit": True}, {}), ({}, {"refit": True})):
        of = SimpleNamespace(
            _plan=SimpleNamespace(config=SimpleNamespace(split=SimpleNamespace(folds=None))),
            _request=Request(given, from_file),
            _load=None,
        )
        frozen = candidates.Candidate("frozen", "frozen", candidates.FROZEN)
        Search._plan_of(of, frozen, 0, Progress())
    assert [each.chosen["refit"] for each in asked] == [False, False]


@pytest.mark.parametrize(("size", "kept"), [(96, False), (48, True), (None, True)])
def test_a_network_from_random_weights_sees_small_images_at_their_own_size(monkeypatch, size, kept):
    asked = []
    monkeypatch.setattr("convscope.studies.search.search.settle", lambda it, *_: asked.append(it))
    config = SimpleNamespace(split=SimpleNamespace(folds=None))
    of = SimpleNamespace(
        _plan=SimpleNamespace(config=config, dataset=SimpleNamespace(image_shape=(64, 64, 3))),
        _request=Request({"image_size": size}),
        _clock=SimpleNamespace(for_long=lambda first: 90.0),
        _proposals=SimpleNamespace(known={"frozen": None}),
        _load=None,
    )
    scratch = candidates.Candidate(
        "from-scratch", "", candidates.FROM_SCRATCH, pace=True, by_time=True
    )
    Search._plan_of(of, scratch, 0, Progress())
    assert ("image_size" in asked[0].given) == kept
    assert (asked[0].given["recipe"], asked[0].budget.minutes) == ("fast", 1.5)


def test_a_candidate_that_was_stopped_keeps_to_the_time_that_is_left(monkeypatch, tmp_path):
    paces = []
    work = "convscope.studies.search.search"
    monkeypatch.setattr(f"{work}.single.resume", lambda *_, pace, **others: paces.append(pace))
    monkeypatch.setattr(f"{work}.run_config", lambda run: SimpleNamespace(epochs=8))
    of = SimpleNamespace(
        _progress=Progress(),
        _clock=SimpleNamespace(for_long=lambda first: -1.0),
        _proposals=SimpleNamespace(known={"frozen": None}),
        settings_of=lambda run: Request({}),
    )
    run = Run.create(tmp_path / "fine-tuned", "fine-tuned")
    run.record(status="training")
    for adapts in (True, False):
        Search._train(of, candidates.Candidate("fine-tuned", "", {}, pace=adapts), run, 0)
    tuned, head = paces
    # The time is over: after two epochs, by which it knows its speed, it ends with the next one.
    assert [tuned.fitting(done, 8) for done in (1, 2)] == [8, 3]
    assert head is None


@pytest.mark.parametrize(
    ("error", "status", "failure"),
    [
        (KeyError("a defect"), "failed", {"kind": "KeyError", "reason": "'a defect'"}),
        (
            TrainingError("it diverged"),
            "failed",
            {"kind": "TrainingError", "reason": "it diverged"},
        ),
        (KeyboardInterrupt(), "interrupted", None),
    ],
)
def test_a_search_that_ends_early_says_why_and_can_be_resumed(tmp_path, error, status, failure):
    def best():
        assert Run(tmp_path).status == "training"
        raise error

    state = {"format": 1, "tried": []}
    auto.SEARCH.write(tmp_path, state)
    work = SimpleNamespace(run=Run(tmp_path), state=state, best=best, save=lambda: None)
    with pytest.raises(type(error)):
        auto._go_on(work, Progress())
    assert Run(tmp_path).status == status
    assert Run(tmp_path).state.get("failure") == failure
    assert auto.find_search(tmp_path)


def test_a_search_is_resumed_with_the_settings_that_it_began_with():
    begun = Request(
        {"data": "folder", "data_path": "old", "seed": 3, "head.hidden": [8]}, {"fit": "pad"}
    )
    same = Request({"data_path": "new", "seed": 3, "head.hidden": (8,)}, {"fit": "pad"})
    assert auto._repeated(same, begun) == same.given
    for changed, says in (
        ({"seed": 4}, "began with seed 3, not 4"),
        ({"split.seed": 1}, "began with no split.seed of yours, not 1"),
        ({"fit": "crop"}, "began with fit 'pad', not 'crop'"),
    ):
        with pytest.raises(ConfigError, match=says):
            auto._repeated(Request(changed), begun)


def test_a_search_is_not_resumed_with_random_weights_in_place_of_a_file_or_the_reverse():
    for before, now in (("/a.h5", "random"), (None, "random"), ("random", "/a.h5")):
        begun = Request({} if before is None else {"weights": before})
        with pytest.raises(ConfigError, match=f"not '{now}'"):
            auto._repeated(Request({"weights": now}), begun)
    for before, now in (("/a.h5", "/elsewhere/a.h5"), ("random", "random")):
        assert auto._repeated(Request({"weights": now}), Request({"weights": before}))


@pytest.mark.parametrize(
    ("before", "refused"),
    [({"weights_sha256": "b"}, True), ({"weights_sha256": "a"}, False), ({}, False)],
)
def test_a_search_goes_on_with_the_weights_that_it_began_with(
    monkeypatch, tmp_path, before, refused
):
    dataset = SimpleNamespace(provenance={"fingerprint": "of the images"})
    plan = SimpleNamespace(dataset=dataset, config=SimpleNamespace(weights_sha256="a"))
    monkeypatch.setattr(auto, "_first_plan", lambda *_: plan)
    monkeypatch.setattr(auto, "Search", lambda run, *_: run)
    monkeypatch.setattr(auto, "_go_on", lambda work, progress: work)
    state = {"given": {}, "from_file": {}, "minutes": 5, "test": True, "tried": []}
    auto.SEARCH.write(tmp_path, {**state, "fingerprint": "of the images", **before})

    def resumed():
        other = Request({"weights": "/elsewhere/a.h5"})
        return auto.resume_search(
            tmp_path, request=other, minutes=None, load=None, progress=Progress()
        )

    if not refused:
        assert resumed().path == tmp_path
        return
    with pytest.raises(RunError, match="the weights are no longer those with which the search"):
        resumed()


def test_on_further_folds_each_has_its_own_network(searched):
    close = {**CLEAR, "fine-tuned": [0.30] * 5, "larger": [0.31] * 5}
    # Of so few images nothing is clear.
    _, tried, _ = searched(close, n_val=8)
    assert {("fine-tuned", 1), ("larger", 1)} <= set(tried)
    networks = {name: network_of(settings) for name, settings in searched.settings.items()}
    assert networks == {"frozen": {}, "larger": PAIR, "mirrored": PAIR, "fine-tuned": {}}


def test_where_the_data_decide_what_is_held_out_there_are_no_further_folds(searched):
    close = {"frozen": [0.5], "mirrored": [0.5], "fine-tuned": [0.49], "larger": [0.5]}
    best, tried, _ = searched(close, folds=None)
    assert (best, tried) == ("fine-tuned", ALL)


def test_of_a_fold_that_the_user_chose_there_are_no_others(searched):
    close = {**CLEAR, "fine-tuned": [0.30] * 5, "larger": [0.31] * 5}
    given = {"split.folds": 5, "split.fold": 2}
    assert {fold for _, fold in searched(close, n_val=8, given=given)[1]} == {0}


@pytest.mark.parametrize(
    ("given", "folds"),
    [
        ({}, 5),
        ({"split.group": "(.*)/"}, 5),
        ({"split.seed": 3, "split.images": 100}, 5),
        ({"split.test_fraction": 0.1}, 5),
        ({"split.val_fraction": 0.3}, None),
        ({"split.folds": 3}, 3),
    ],
)
def test_images_are_divided_into_folds_unless_it_is_said_which_are_held_out(
    monkeypatch, given, folds
):
    monkeypatch.setattr(auto, "settle", lambda request, *_: request)
    for request in (Request(given), Request({}, given)):
        assert auto._first_plan(request, None, Progress()).chosen.get("split.folds") == folds


def test_a_candidate_starts_only_if_it_can_end_in_time(searched):
    # After the first training ten seconds are over, and another would take two more.
    assert searched(CLEAR, minutes=12 / 60)[1] == ALL[:1]
    assert searched(CLEAR, minutes=0.88)[1] == ALL[:3]


def test_what_features_in_the_cache_once_took_is_no_time_of_the_first_candidate(searched):
    # Of its ten seconds eight were for features, and two for the head.
    searched.feature_seconds = 8.0
    assert ("mirrored", 0) in searched(CLEAR, minutes=0.44, n_val=8)[1]
    # All ten were, and another head takes as long.
    searched.from_cache = True
    assert searched(CLEAR, minutes=0.441, n_val=8)[1] == ALL[:1]


def test_where_mirroring_does_not_keep_the_classes_no_image_is_mirrored(searched):
    asymmetric = {**CLEAR, "mirrored": [1.1] * 5, "fine-tuned": [1.5] * 5}
    best, _, told = searched(asymmetric)
    assert best == "frozen"
    assert any(
        line.endswith(
            "images will not be mirrored, since that may change the class, as with letters"
        )
        for line in told
    )
    # A difference that chance explains says nothing against it.
    _, _, told = searched({**asymmetric, "mirrored": [0.93] * 5}, minutes=61)
    assert any(line.endswith("mirroring does no harm") for line in told)


def test_who_says_that_mirrored_images_keep_their_classes_gets_each_image_both_ways(searched):
    given = {"augment.flip": True}
    worse = {**CLEAR, "mirrored": [1.1] * 5}
    best, tried, told = searched(worse, given=given)
    assert (best, tried) == ("fine-tuned", ALL)
    assert searched.settings["mirrored"]["backbone.views"] == 2
    assert searched.settings["fine-tuned"]["augment.flip"] is True
    assert not any("mirroring" in line or "mirrored ones" in line for line in told)
    # Who says that they do not, or sets the versions of an image, gets no more of them.
    for number, more in enumerate(({"augment.flip": False}, {**given, "backbone.views": 4})):
        _, tried, _ = searched(worse, given=more, minutes=61 + number)
        assert ("mirrored", 0) not in tried
        assert searched.settings["fine-tuned"]["augment.flip"] is more["augment.flip"]


@pytest.mark.parametrize(
    ("given", "plain", "both"),
    [
        ({"augment.flip": True}, None, True),
        ({"augment.flip": True, "backbone.views": 4}, True, True),
        ({"augment.flip": False}, None, False),
        ({}, None, True),
        ({"augment.turn": True}, None, True),
    ],
)
def test_a_head_that_learns_each_image_once_learns_it_as_it_is(monkeypatch, given, plain, both):
    asked = []
    monkeypatch.setattr("convscope.studies.search.search.settle", lambda it, *_: asked.append(it))
    monkeypatch.setattr(auto, "settle", lambda it, *_: asked.append(it))
    for request in (Request(given), Request({}, given)):
        of = SimpleNamespace(
            _plan=SimpleNamespace(config=SimpleNamespace(split=SimpleNamespace(folds=None))),
            _request=request,
            _load=None,
        )
        auto._first_plan(request, None, Progress())
        for name in ("frozen", "larger"):
            Search._plan_of(of, candidates.Candidate(name, "", candidates.FROZEN), 0, Progress())
        settings = {**candidates.FROZEN, **candidates.MIRRORED}
        Search._plan_of(of, candidates.Candidate("mirrored", "", settings), 0, Progress())
        found = [each.chosen.get("augment.flip") for each in asked]
        assert found == [plain, plain, plain, both]
        assert not any(each.chosen.get("augment.turn") for each in asked[:3])
        asked.clear()


def test_who_has_images_turned_gets_each_in_all_orientations(searched):
    given = {"augment.turn": True}
    _, tried, told = searched(GOOD_LARGER, given=given)
    copies = {"augment.flip": True, "augment.turn": True, "backbone.views": 8}
    assert copies.items() <= searched.settings["mirrored"].items()
    assert ("mirrored", 0) in tried
    assert any("with mirrored and turned ones" in line for line in told)
    searched(GOOD_LARGER, minutes=60, resumed=True, given=given)
    assert searched.settings["mirrored"]["model"] == PAIR["model"]
    # Eight versions take longer than two, and are left out first.
    searched.feature_seconds = 8.0
    assert ("mirrored", 0) in searched(CLEAR, minutes=0.44, n_val=8)[1]
    _, tried, told = searched(CLEAR, minutes=0.441, n_val=8, given=given)
    assert ("mirrored", 0) not in tried
    assert any("Not tried, for lack of time" in line and "turned images" in line for line in told)


def test_a_candidate_that_fails_is_told_and_the_others_count(searched):
    best, tried, told = searched({name: CLEAR[name] for name in ("frozen", "mirrored")})
    assert best == "mirrored"
    assert tried[:5] == [ALL[0], ("larger", 0), ("larger-3", 0), *ALL[3:]]
    assert "  failed: it diverged" in told


def test_if_all_fail_so_does_the_search(searched):
    with pytest.raises(TrainingError, match="it diverged"):
        searched({})


@pytest.mark.parametrize(
    ("n_images", "side", "each", "minutes", "given", "size"),
    [
        (1_000, 224, 9.9, 5, {}, 224),  # few enough for any machine: nothing is measured
        (12_000, 224, 0.01, 5, {}, 224),
        (50_000, 224, 0.01, 5, {}, 96),
        (50_000, 224, 0.01, 20, {}, 192),
        (50_000, 224, 0.01, 60, {}, 224),
        (10**7, 224, 0.01, 5, {}, 96),
        (50_000, 224, 0.01, 5, {"image_size": 224}, 224),
        # Few enough for the usual backbone, and too many for one of forty times the cost.
        (5_000, 224, 0.2, 5, {"model": "vgg16"}, 96),
        (5_000, 224, 0.2, 5, {"model": "mobilenet_v2"}, 224),
        # A network from random weights needs more of the time.
        (12_000, 64, 0.01, 5, {}, 160),
        (12_000, 64, 0.01, 5, {"model": "efficientnet_lite0"}, 224),
    ],
)
def test_many_images_in_little_time_are_made_smaller(
    monkeypatch, n_images, side, each, minutes, given, size
):
    images = range(n_images)
    data = SimpleNamespace(parts={"train": images}, train=images, image_shape=(side, side, 3))
    model = given.get("model", "efficientnet_lite0")
    plan = SimpleNamespace(dataset=data, config=SimpleNamespace(image_size=224, model=model))
    monkeypatch.setattr(auto, "seconds_per_image", lambda plan: each)
    monkeypatch.setattr(auto, "_first_plan", lambda request, load, progress: request)
    told = Listening()
    request, settled = auto._in_time(Request(given), plan, minutes, None, told)
    assert request.given.get("image_size", 224) == size
    assert (settled is plan) == (size == 224)
    assert bool(told.lines) == (size != 224)


@pytest.mark.parametrize(
    ("at_once", "groups"),
    [
        (1, [["frozen"], ["larger"], ["larger-3"], ["mirrored"], ["fine-tuned"]]),
        (2, [["frozen"], ["larger", "larger-2"], ["larger-3"], ["mirrored"], ["fine-tuned"]]),
        (8, [["frozen"], ["larger", "larger-2", "larger-3"], ["mirrored"], ["fine-tuned"]]),
    ],
)
def test_larger_networks_are_tried_at_once_where_there_is_room(searched, at_once, groups):
    executor = AtOnce(at_once)
    best, tried, _ = searched(CLEAR, executor=executor)
    assert best == "fine-tuned"
    assert [each for each in executor.groups if each] == groups
    assert sorted(tried) == sorted((name, 0) for group in groups for name in group)


def test_several_folds_are_tried_at_once_where_there_is_room(searched):
    close = {**CLEAR, "frozen": [0.31] * 5, "larger": [0.9] * 5, "mirrored": [0.9] * 5}
    one, four = AtOnce(1), AtOnce(4)
    assert searched(close, executor=one, minutes=61)[0] == "fine-tuned"
    assert searched(close, executor=four, minutes=62)[0] == "fine-tuned"
    assert ["fine-tuned-fold2", "frozen-fold2"] in one.groups
    both = ["fine-tuned-fold2", "frozen-fold2", "fine-tuned-fold3", "frozen-fold3"]
    assert both in four.groups


def test_a_candidate_that_fails_elsewhere_is_out(searched):
    losses = {name: value for name, value in CLEAR.items() if name != "larger-2"}
    best, tried, told = searched(losses, executor=AtOnce(8))
    assert best == "fine-tuned"
    assert ("larger-2", 0) in tried
    assert "  failed: it diverged" in told


def test_a_candidate_whose_predictions_cannot_be_read_is_out(searched):
    searched.unreadable = "mirrored"
    best, tried, told = searched(CLEAR)
    assert (best, tried) == ("fine-tuned", ALL)
    assert "  failed: its predictions are damaged" in told


def test_losses_on_few_groups_are_clearly_lower_only_if_most_groups_say_so():
    chance = np.random.default_rng(0)
    groups = np.repeat([f"{number}" for number in range(8)], 50)
    plain = chance.gamma(1, 1, 400).astype(np.float32)
    # Two bursts of eight are far better, the others a little worse.
    lucky = plain - np.repeat([1.0, 1.0] + [-0.1] * 6, 50).astype(np.float32)
    assert results.is_lower(lucky, plain)
    assert not results.is_lower(lucky, plain, groups)
    better = plain - np.repeat(chance.normal(0.3, 0.1, 8), 50).astype(np.float32)
    better[::7] = np.nan
    assert results.is_lower(better, plain, groups)
    assert not results.is_lower(better, plain, np.full(400, "one"))


def test_of_equal_losses_on_three_groups_few_are_called_lower():
    chance = np.random.default_rng(1)
    groups = np.repeat(["a", "b", "c"], 20)

    def lower() -> bool:
        gaps = np.repeat(chance.normal(0, 0.3, 3), 20) + chance.normal(0, 0.1, 60)
        return results.is_lower(np.zeros(60), gaps, groups)

    assert np.mean([lower() for _ in range(400)]) < 0.06
