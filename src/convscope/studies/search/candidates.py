"""Candidates of a search: which are worth trying in a time, and which of them is the best."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.api import train as single
from convscope.errors import ConvscopeError, StorageError, TrainingError
from convscope.evaluation.multi_label import score_of
from convscope.evaluation.tried import Tried
from convscope.planning.plan import Plan, run_config
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.recipes.finetune_photos import finetune_photos
from convscope.run import Run
from convscope.studies.executor import Executor, Job
from convscope.types import Dataset, FloatArray, Predictions, n_of_each
from convscope.wording import counted

if TYPE_CHECKING:
    from convscope.models.backbones import Backbone

FROZEN: Mapping[str, Any] = {"recipe": "logistic"}
FOLDS: Mapping[str, Any] = {"split.folds": 5}
_MIRRORED: Mapping[str, Any] = {"augment.flip": True, "backbone.views": 2}

SMALL = 64
"""Side in pixels up to which images are no photos to a pretrained network."""

FEW = 1_000
"""Validation images below which they are worth more for training, in the end, than apart."""

_CLEAR = 2.0
"""Standard errors from which the difference of two candidates' losses is no chance."""

_MOST_EPOCHS, _LEAST_EPOCHS = 8, 4
"""Epochs of fine-tuning: more gained nothing, fewer lost against the frozen backbone."""

_ENOUGH_EPOCHS = 6
"""Epochs from which more versions of each image are worth more than further epochs."""

_STEPS = (
    ("efficientnet_lite1_2", 240),
    ("efficientnet_lite1_2", None),
    ("efficientnet_lite2", None),
)
"""Larger networks to try after the first, with the side of images, or with its images. The loss on
held-out images was 0.248, 0.257 and 0.273 with these on TrashNet, after 0.291 with Lite0 at 224
pixels; 0.307, 0.290 and 0.301 on Caltech 101, after 0.365; 0.609, 0.623 and 0.623 on solar cells,
after 0.639; 0.109, 0.106 and 0.126 on UC Merced, after 0.121."""

_LARGER_SIZE = 288
"""Side in pixels of larger images, where the user chose the network, or the weights of larger ones
are not at hand. With Lite0 the loss was 0.275, 0.371, 0.634 and 0.118."""

_LARGER = ("larger", "larger-2", "larger-3")
"""Names of these candidates."""

_COUNTED_AT = 224
"""Side in pixels at which the multiply-adds of two networks are compared."""

_NETWORK = ("model", "image_size")
"""Settings that decide how long an image takes."""

_ON_FROZEN = ("frozen", *_LARGER, "mirrored")
"""Names of the candidates that train a head alone."""

_EPOCH_COST, _EPOCH_COST_CONVERTED = 0.7, 1.7
"""Time to train the last stage on an image, relative to running the frozen backbone on it: in
Keras, and in ONNX Runtime, which trains nothing."""

_START_S = 5.0
"""Seconds to read images of another size, or to write what is left at the end."""


@dataclass(frozen=True)
class Candidate:
    """A way of training that is worth trying.

    Attributes:
        name: Name of its folder.
        words: What it is, for people.
        settings: Settings on top of the user's.
        pace: Whether its epochs adapt to the time that is left.
    """

    name: str
    words: str
    settings: Mapping[str, Any]
    pace: bool = False


def with_settings(request: Request, settings: Mapping[str, Any]) -> Request:
    """Return a request with settings that hold where the user named none."""
    added = {key: value for key, value in settings.items() if key not in request.from_file}
    return Request({**added, **request.given}, request.from_file)


def seconds_per_image(plan: Plan) -> float:
    """Return the time in which the frozen backbone of a plan runs on an image, measured."""
    from convscope.models.folding import fold_batch_norm
    from convscope.models.transfer import build_transfer
    from convscope.planning.networks import input_spec
    from convscope.training.features import batch_size_for
    from convscope.training.inference import FrozenInference

    config, data = plan.config, plan.dataset
    spec = input_spec(data, config)
    network = build_transfer(config.model, spec, len(data.class_names), config.head)
    lower = fold_batch_norm(network.lower())
    batch = data.train.images[np.arange(batch_size_for(spec.height)) % len(data.train)]
    inference = FrozenInference(lower, f"speed of {config.model}", len(batch), Progress())
    inference(batch)  # prepares
    start = time.perf_counter()
    inference(batch)
    return (time.perf_counter() - start) / len(batch)


@dataclass(frozen=True)
class Place:
    """Place where candidates are trained.

    Attributes:
        executor: Executor; None trains in this process, with the data that it holds.
        data_dir: Further folder to look for the files of a registered dataset.
    """

    executor: Executor | None = None
    data_dir: Path | str | None = None


class Search:
    """Tries the candidates as long as there is time: one after another, or as many as fit."""

    def __init__(
        self,
        run: Run,
        request: Request,
        state: dict[str, Any],
        plan: Plan,
        load: Callable[[RunConfig], Dataset],
        began: float,
        progress: Progress,
        place: Place,
    ) -> None:
        self.run = run
        self._began = began
        self._place = place
        self._request = request
        self.state = state
        self._plan = plan
        self._load = load
        self._ends: float = began + 60 * state["minutes"]
        self._progress = progress
        self._tried = [Tried(**row) for row in state["tried"]]
        self._known: dict[str, Candidate] = {}
        self._left_out: list[str] = []
        data = plan.dataset
        assert data.val is not None
        self._n_train, self._n_val = len(data.train), len(data.val)
        self._n_test = 0 if data.test is None or not state["test"] else len(data.test)

    @property
    def refits(self) -> bool:
        """Whether the best is trained once more: as the user said, or if that is worth it."""
        chosen: bool | None = self._request.chosen.get("refit")
        return self._n_val < FEW if chosen is None else chosen

    def best(self) -> str:
        """Try what fits into the time, and return the name of the best candidate."""
        self._describe()
        for group in self._candidates():
            self._known |= {each.name: each for each in group}
            self._try([(each, 0) for each in group])
        standing = self._standing()
        if not standing:
            raise TrainingError(self._tried[0].note)
        if self._left_out:
            self._progress.say(
                f"Not tried, for lack of time: {', '.join(self._left_out)}; give more --minutes"
            )
        finalists = [each for each in standing if each not in _ON_FROZEN]
        if set(standing) & set(_ON_FROZEN):
            finalists.append(self._best_of(_ON_FROZEN))
        if self._plan.config.split.folds is not None:
            self._race(finalists)
        name = next(each for each in self._standing() if each in finalists)
        best = self._done(name, 0)
        assert best is not None
        cost = self._cost(self._known[name].settings)
        self._progress.say(
            f"Best of {counted(len(standing), 'candidate')}: {best.words}"
            + (f"; an image takes {cost:.1f} times as long as with the first" * (cost > 1))
        )
        return name

    def keep_out_of_fold(self, name: str) -> None:
        """Keep the winner's predictions on the folds that it was tried on, if there are several."""
        from convscope.evaluation.predictions import read_predictions, save_out_of_fold

        runs = [folder_of(self.run, name, fold) for fold in sorted(self._folds_of(name))[1:]]
        if runs and not self.run.out_of_fold_file.exists():
            said = [read_predictions(each.predictions_file)[0]["val"] for each in (self.run, *runs)]
            together = Predictions.joined(said, "out_of_fold")
            save_out_of_fold(self.run, self.run.class_names, together)

    @property
    def _at_once(self) -> int:
        """Number of candidates that can be trained at once."""
        return 1 if self._place.executor is None else self._place.executor.at_once

    def _candidates(self) -> Iterator[list[Candidate]]:
        """Yield candidates that are worth trying at once, after what was tried before."""
        # The time is unknown before the first, which shows the speed of the machine.
        yield [Candidate("frozen", f"{self._where({})}, frozen", FROZEN)]
        first = self._done("frozen", 0)
        if first is None or first.note:
            return
        # The largest that fits; where it does not clearly help, a smaller network too.
        unclear, is_settled = set(), False
        left = self._larger()
        no_larger = bool(left) and not any(
            self._done(each.name, 0) or self._fits_frozen(each, 1) for each in left
        )
        self._left_out += ["a larger network"] * no_larger
        while left:
            group: list[Candidate] = []
            while left and len(group) < self._at_once:
                larger = left.pop(0)
                is_idle = is_settled or larger.settings.get("model") in unclear
                if self._done(larger.name, 0) or (not is_idle and self._fits_frozen(larger, 1)):
                    group.append(larger)
            yield group
            for larger in group:
                is_settled |= self._is_clear(larger.name, "frozen")
                unclear.add(larger.settings.get("model"))
        mirror: bool | None = self._request.chosen.get("augment.flip")
        if mirror is None:
            base = self._known[self._base()]
            words = self._words_mirrored(base)
            if self._done("mirrored", 0) or self._fits_frozen(base, 2):
                known = self._chosen_by(base.name, "last_map")
                yield [Candidate("mirrored", words, {**base.settings, **_MIRRORED, **known})]
                mirror = self._keeps_the_classes(base.name)
            else:
                self._left_out.append("mirrored images")
        singles = [name for name in _ON_FROZEN if self._is_single(name)]
        if not singles:
            return
        # With the better network, and size: with the other it would start behind.
        best = self._known[self._best_of(singles)]
        network = {key: best.settings[key] for key in _NETWORK if key in best.settings}
        for views in (finetune_photos().backbone.views, 2):
            epochs = self._affordable(views, self._cost(network))
            if epochs >= _ENOUGH_EPOCHS:
                break
        if self._done("fine-tuned", 0) or epochs >= _LEAST_EPOCHS:
            settings = {
                "recipe": "finetune-photos",
                "epochs": max(epochs, _LEAST_EPOCHS),
                "augment.flip": bool(mirror),
                "backbone.views": views,
                **network,
                **self._chosen_by(best.name, "penalty", "last_map"),
            }
            words = f"{self._where(network)}, last stage fine-tuned"
            yield [Candidate("fine-tuned", words, settings, pace=True)]
        else:
            self._left_out.append("fine-tuning")

    def _larger(self) -> list[Candidate]:
        """Return candidates with larger networks, the largest first.

        Where the network is set, with larger images for it.
        """
        from convscope.models.backbones import BACKBONES
        from convscope.models.weights import weights_at_hand

        chosen, size = self._request.chosen, self._plan.config.image_size
        steps: list[tuple[str | None, int | None]] = [(None, _LARGER_SIZE)]
        if not {"model", "weights"} & set(chosen):
            at_hand = [each for each in _STEPS if weights_at_hand(BACKBONES.get(each[0]))]
            steps = [*at_hand] or steps
        networks: list[dict[str, Any]] = []
        for model, side in steps:
            network: dict[str, Any] = {} if model is None else {"model": model}
            if "image_size" not in chosen and size is not None and side is not None and size < side:
                network["image_size"] = side
            if network and network not in networks:
                networks.append(network)
        return [
            Candidate(name, f"{self._where(network)}, frozen", {**FROZEN, **network})
            for name, network in zip(_LARGER, networks, strict=False)
        ]

    def _is_single(self, name: str) -> bool:
        """Return whether a candidate was tried whose backbone is one network, not several."""
        if name not in self._known or self._done(name, 0) is None:
            return False
        return not self._backbone_of(self._known[name]).parts

    def _backbone_of(self, candidate: Candidate) -> "Backbone":
        from convscope.models.backbones import BACKBONES

        return BACKBONES.get(candidate.settings.get("model", self._plan.config.model))

    def _best_of(self, names: Iterable[str]) -> str:
        """Return the candidate on a frozen backbone with the lowest loss on images not learnt.

        Only of equal ones the quicker network: to let it win unless it was worse by a standard
        error cost 1 to 7 % of the loss on images that had no part in the choice.
        """
        tried = [name for name in self._standing() if name in names and name in self._known]
        losses = {name: self._all_losses(name) for name in tried}
        shared = ~np.isnan(sum(losses.values()))

        def rank(name: str) -> tuple[float, float]:
            cost = self._cost(self._known[name].settings)
            return round(float(losses[name][shared].mean()), 4), cost

        return min(tried, key=rank)

    def _base(self) -> str:
        """Return the candidate whose mirrored images are worth trying, or were tried."""
        tried = self._done("mirrored", 0)
        if tried is None:
            return self._best_of(("frozen", *_LARGER))
        known = [each for each in self._known.values() if each.name in ("frozen", *_LARGER)]
        words = {self._words_mirrored(each): each.name for each in known}
        return words.get(tried.words, "frozen")

    def _words_mirrored(self, base: Candidate) -> str:
        return f"{base.words}, on mirrored images too"

    def _where(self, settings: Mapping[str, Any]) -> str:
        config = self._plan.config
        model, size = (settings.get(key, getattr(config, key)) for key in _NETWORK)
        return f"{model} at {size} px"

    def _chosen_by(self, name: str, *choices: str) -> dict[str, float]:
        """Return settings of the head as a candidate chose them, so that others need not."""
        state = folder_of(self.run, name, 0).state
        return {f"head.{choice}": state[choice] for choice in choices if choice in state}

    def _held_out(self, name: str) -> FloatArray:
        """Return the loss on each training image of a head that had not learnt it.

        Not a number for those that were not held out: all, with a penalty of the user's.
        """
        unknown = np.full(self._n_train, np.nan)
        try:
            found = np.load(folder_of(self.run, name, 0).held_out_file)
        except (OSError, ValueError):
            return unknown
        return found if (found.shape, found.dtype) == (unknown.shape, np.float32) else unknown

    def _all_losses(self, name: str) -> FloatArray:
        """Return the losses on training and validation images, each by a head without them."""
        return np.concatenate([self._held_out(name), self._losses(name, 0)])

    def _views_of(self, candidate: Candidate) -> int:
        """Return the number of versions of each training image that a candidate learns."""
        return int(candidate.settings.get("backbone.views", 1))

    def _fits_frozen(self, candidate: Candidate, views: int) -> bool:
        """Return whether heads on so many versions of each training image end in time.

        Args:
            candidate: Candidate with the network; if it was tried, its features are there.
            views: Number of versions.
        """
        cost = self._cost(candidate.settings)
        there = self._done(candidate.name, 0) is not None
        n_images = (views - there) * self._n_train + (not there) * self._n_val
        seconds = n_images * self._per_image * cost + self._seconds_beside(candidate, views)
        return self._fits(seconds, self._finishing(candidate, views))

    def _seconds_beside(self, candidate: Candidate, views: int = 1) -> float:
        """Return the seconds of a candidate, or its last training, that are not its features.

        For each of its networks what the first candidate took, half of it for heads; which learn
        so many versions of each image.
        """
        first = self._done("frozen", 0)
        assert first is not None
        known = self._per_image * (self._n_train + self._n_val)
        n_networks = len(self._backbone_of(candidate).parts) or 1
        return _START_S + n_networks * (1 + views) / 2 * max(0.0, first.seconds - known)

    def _cost(self, settings: Mapping[str, Any]) -> float:
        """Return the time for an image with settings, relative to that of the first candidate."""
        from convscope.models.backbones import BACKBONES

        config, cost = self._plan.config, 1.0
        if "model" in settings:
            first, other = BACKBONES.get(config.model), BACKBONES.get(settings["model"])
            cost *= other.multiply_adds[_COUNTED_AT] / first.multiply_adds[_COUNTED_AT]
        if "image_size" in settings and config.image_size is not None:
            cost *= (settings["image_size"] / config.image_size) ** 2
        return float(cost)

    def _race(self, finalists: list[str]) -> None:
        """Try the two best on further folds until the better one is clear, or the time is over."""
        folds = self._plan.config.split.folds or 1
        left = list(range(1, folds))
        while left:
            names = [name for name in self._standing() if name in finalists][:2]
            if len(names) < 2 or self._is_clear(*names):
                return
            seconds = sum(self._mean_seconds(name) for name in names)
            if not self._fits(seconds, max(self._finishing(self._known[name]) for name in names)):
                return
            now = [left.pop(0) for _ in range(min(len(left), max(1, self._at_once // 2)))]
            listed = ", ".join(str(fold + 1) for fold in now)
            self._progress.say(
                f"{names[0]} and {names[1]} are close: fold {listed} of {folds} for both"
            )
            self._try([(self._known[name], fold) for fold in now for name in names])

    def _is_clear(self, first: str, second: str) -> bool:
        """Return whether the first of two candidates has a clearly lower loss than the second."""
        names = self._standing()
        if first not in names or second not in names:
            return first in names
        if {first, second} <= set(_ON_FROZEN):
            return _is_lower(self._all_losses(first), self._all_losses(second))
        shared = sorted(self._folds_of(first) & self._folds_of(second))
        lower, higher = (
            np.concatenate([self._losses(name, fold) for fold in shared])
            for name in (first, second)
        )
        return _is_lower(lower, higher)

    def _standing(self) -> list[str]:
        """Return the names of the candidates that may win, the lowest loss first.

        Those tried on more folds are compared on these; others have lost on the first.
        """
        names = list(dict.fromkeys(row.candidate for row in self._tried))
        out = {row.candidate for row in self._tried if row.note}
        names = [name for name in names if name not in out]
        most = max((len(self._folds_of(name)) for name in names), default=0)

        def rank(name: str) -> tuple[bool, float]:
            folds = sorted(self._folds_of(name))
            losses = np.concatenate([self._losses(name, fold) for fold in folds])
            return len(folds) < most, float(losses.mean())

        return sorted(names, key=rank)

    def _folds_of(self, name: str) -> set[int]:
        return {row.fold for row in self._tried if row.candidate == name}

    def _done(self, name: str, fold: int) -> Tried | None:
        found = (row for row in self._tried if (row.candidate, row.fold) == (name, fold))
        return next(found, None)

    def _losses(self, name: str, fold: int) -> FloatArray:
        return _losses(folder_of(self.run, name, fold))[0]

    def _mean_seconds(self, name: str) -> float:
        return float(np.mean([row.seconds for row in self._tried if row.candidate == name]))

    def _keeps_the_classes(self, base: str) -> bool:
        """Find out by held-out images whether a mirrored image keeps its class.

        Args:
            base: Candidate with the same network, without mirrored images.
        """
        tried = self._done("mirrored", 0)
        if "mirror" in self.state:
            return bool(self.state["mirror"])
        if tried is None or tried.note:
            return False
        plain, both = self._all_losses(base), self._all_losses("mirrored")
        keeps = not _is_lower(plain, both)
        if not keeps:
            self._tried.remove(tried)
            note = "mirrored images raise the held-out loss"
            self._tried.append(replace(tried, note=note))
        self.state["mirror"] = keeps
        self._save()
        self._progress.say(
            f"Loss on held-out images {np.nanmean(both):.4f} with mirrored ones, "
            f"{np.nanmean(plain):.4f} without: "
            + (
                "mirroring does no harm"
                if keeps
                else "no image is mirrored; it may change the class, as of letters"
            )
        )
        return keeps

    @property
    def _per_image(self) -> float:
        """Seconds in which the frozen backbone runs on an image."""
        seconds = float(folder_of(self.run, "frozen", 0).state["feature_seconds"])
        # A handful of small images takes none that a clock would show.
        return max(seconds, 0.001) / (self._n_train + self._n_val)

    def _affordable(self, views: int, cost: float) -> int:
        """Return the epochs of fine-tuning that fit, with its refit if there is one."""
        from convscope.training.inference import can_convert

        each = self._per_image * cost
        epoch = each * (_EPOCH_COST_CONVERTED if can_convert() else _EPOCH_COST)
        n_all = self._n_train + self._n_val
        fixed = 2 * self._seconds_beside(self._known["frozen"]) + each * (
            views * n_all + self._n_test
        )
        first = self._n_train * epoch
        again = n_all * epoch if self.refits else 0
        return math.floor(min(_MOST_EPOCHS, (self._left() - fixed) / (first + again)))

    def _finishing(self, candidate: Candidate, views: int | None = None) -> float:
        """Return the seconds to finish with a candidate: its refit and the test images.

        Args:
            candidate: Candidate that may win.
            views: Number of versions of each training image; None takes that which it learnt.
        """
        each, again = self._per_image * self._cost(candidate.settings), _START_S
        if candidate.pace and self.refits:
            again = self._mean_seconds(candidate.name) * (1 + self._n_val / self._n_train)
        elif self.refits:
            views = self._views_of(candidate) if views is None else views
            # Further versions of validation images; heads for answers out of fold; the head.
            again = (views - 1) * self._n_val * each + self._seconds_beside(candidate, views)
        if self._place.executor is not None:
            # Features that another machine computed may not be here.
            again += (self._n_train + self._n_val) * each
        return each * self._n_test + again

    def _left(self) -> float:
        return self._ends - time.monotonic()

    def _fits(self, seconds: float, after: float) -> bool:
        return seconds + after <= self._left()

    def _try(self, wanted: list[tuple[Candidate, int]]) -> None:
        """Train candidates, each on all folds but one, and keep how good they are."""
        new = [(each, fold) for each, fold in wanted if not self._done(each.name, fold)]
        at_once, began = self._at_once, time.monotonic()
        for candidate, fold, note in self._trained(new):
            # One after another, or all from the same moment.
            seconds = round(time.monotonic() - began, 1)
            began = time.monotonic() if at_once == 1 else began
            self._keep(candidate, fold, seconds, note)

    def _keep(self, candidate: Candidate, fold: int, seconds: float, note: str) -> None:
        """Write down the result of a training.

        Args:
            candidate: Candidate.
            fold: Index of the fold that it was not trained on.
            seconds: Time that it took.
            note: Reason why it failed; empty if it did not.
        """
        run = folder_of(self.run, candidate.name, fold)
        result: tuple[float | None, float | None] = (None, None)
        try:
            if not note:
                losses, score = _losses(run)
                result = score, float(losses.mean())
        except StorageError:
            raise
        except ConvscopeError as error:
            note = str(error)
        undone = not note and run.state.get("rolled_back", False)
        words = candidate.words + (", undone: the frozen backbone was no worse" if undone else "")
        row = Tried(candidate.name, fold, words, seconds, *result, note)
        self._tried.append(row)
        self._save()
        if note:
            self._progress.say(f"  failed: {note}")
            return
        measure = "mAP" if self._plan.config.multi_label else "accuracy"
        which = f"{candidate.words}: " if self._at_once > 1 else ""
        self._progress.say(
            f"  {which}{measure} {result[0]:.4f}, loss {result[1]:.4f} on "
            f"{len(losses):,} validation images after {seconds:.0f} s"
            + (f"; it can be used from now on: {run.path}" if len(self._tried) == 1 else "")
        )

    def settings_of(self, run: Run) -> Request:
        """Return the settings of a run of the search, with the current places of its files."""
        now = {key: getattr(self._plan.config, key) for key in ("data_path", "labels", "weights")}
        return Request({**run_config(run).model_dump(), **now})

    def _trained(self, wanted: list[tuple[Candidate, int]]) -> Iterator[tuple[Candidate, int, str]]:
        """Train candidates from where they stand; yield each when it ends.

        Yields:
            Candidate, fold, and the reason why it failed; empty if it did not.

        Raises:
            StorageError: If a file cannot be written.
        """
        if self._place.executor is not None:
            jobs = [self._job_of(*each) for each in wanted]
            asked = {job.folder: each for job, each in zip(jobs, wanted, strict=True)}
            for job, outcome in self._place.executor.outcomes(jobs, self._progress):
                yield *asked[job.folder], outcome.failure or ""
            return
        for candidate, fold in wanted:
            self._progress.say(f"Trying {candidate.words}")
            note = ""
            try:
                self._train(candidate, folder_of(self.run, candidate.name, fold), fold)
            except StorageError:
                raise
            except ConvscopeError as error:
                note = str(error)
            yield candidate, fold, note

    def _job_of(self, candidate: Candidate, fold: int) -> Job:
        """Return the training of a candidate as a job; its epochs do not adapt to the time."""
        run = folder_of(self.run, candidate.name, fold)
        if run.state_file.exists():
            config = settle(self.settings_of(run), Progress(), self._load).config
        else:
            config = self._plan_of(candidate, fold).config
        where = f", fold {fold + 1}" if fold else ""
        return Job(config, run.path, self._place.data_dir, f"Trying {candidate.words}{where}")

    def _plan_of(self, candidate: Candidate, fold: int) -> Plan:
        settings = dict(candidate.settings)
        if self._plan.config.split.folds is not None:
            settings |= {**FOLDS, "split.fold": fold}
        return settle(with_settings(self._request, settings), Progress(), self._load)

    def _train(self, candidate: Candidate, run: Run, fold: int) -> None:
        """Train a candidate in this process on all folds but one, from where it stands."""
        from convscope.training.budget import Deadline, Pace

        progress = _Indented(self._progress)
        if run.state_file.exists():
            single.resume(run, self.settings_of(run), progress=progress, test=False)
            return
        plan = self._plan_of(candidate, fold)
        if candidate.pace:
            # The refit takes as long again.
            share = 0.5 if self.refits else 1.0
            left = (self._left() - self._finishing(self._known["frozen"])) * share
            plan = replace(plan, pace=Pace(Deadline(left), plan.config.epochs))
        single.train(plan, progress=progress, out=run.path, test=False)

    def _save(self) -> None:
        self.state["tried"] = [asdict(each) for each in self._tried]
        self.state["spent"] = round(time.monotonic() - self._began, 1)
        Run.write_json(self.run.search_file, self.state)

    def _describe(self) -> None:
        data = self._plan.dataset
        labels = n_of_each(data.train.labels, len(data.class_names))
        colour = "grey" if data.image_shape[2] == 1 else "colour"
        minutes = self.state["minutes"]
        self._progress.say(
            f"{self._n_train + self._n_val:,} {colour} images to learn from, "
            f"{len(data.class_names)} classes, {labels.min():,} to {labels.max():,} each in "
            "training"
        )
        self._progress.say(
            f"Plan for {minutes:g} minute{'s' * (minutes != 1)}: a frozen backbone, larger "
            "ones, mirrored images too; the last stage of the best one fine-tuned; the best of "
            "these once more on all but the test images"
        )


class _Indented(Progress):
    """Progress of a candidate: lines of its own are set in below that which names it."""

    def __init__(self, outer: Progress) -> None:
        self.task = outer.task  # type: ignore[method-assign]
        self._outer = outer

    def say(self, text: str) -> None:
        """Print one line, set in."""
        self._outer.say(f"  {text}")

    def is_news(self, about: str) -> bool:
        """Return whether no candidate mentioned it."""
        return self._outer.is_news(about)


def folder_of(run: Run, name: str, fold: int) -> Run:
    """Return the run of a candidate in the folder of a search."""
    return Run(run.search_dir / (name if fold == 0 else f"{name}-fold{fold + 1}"))


def _is_lower(first: FloatArray, second: FloatArray) -> bool:
    """Return whether losses on the same images are lower by more than chance explains.

    Args:
        first: Shape (n_images,); not a number where an image has no loss.
        second: The same for the other candidate.
    """
    gaps = (second - first)[~np.isnan(second - first)]
    return bool(gaps.mean() > _CLEAR * gaps.std() / math.sqrt(len(gaps)))


def _losses(run: Run) -> tuple[FloatArray, float]:
    """Return the loss on each validation image, after the temperature, and accuracy or mAP.

    In the order of the images' names, which is the same for all runs with these images.
    """
    from convscope.classifier.classify import at_temperature
    from convscope.classifier.decisions import LEAST_PROB, image_losses
    from convscope.classifier.keras_model import spec_of, which_weights
    from convscope.evaluation.predictions import read_predictions

    said = read_predictions(run.predictions_file)[0]["val"]
    temperature = spec_of(run, which_weights(run, None)).temperature
    probs = at_temperature(said.probs, temperature, multi_label=said.multi_label)
    order = np.argsort(said.ids, kind="stable")
    losses = image_losses(probs, said.labels, LEAST_PROB)[order].astype(np.float32)
    return losses, score_of(run.metrics["val"])
