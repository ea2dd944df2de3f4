"""How good the candidates of a search are, by images that they had not learnt."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convscope.errors import ConvscopeError, StorageError
from convscope.evaluation.grouping import contributions
from convscope.evaluation.multi_label import score_of
from convscope.evaluation.tried import Tried
from convscope.run import Run
from convscope.studies.search.candidates import HEADS, Candidate, folder_of
from convscope.types import FloatArray, Split, joined_if_all

_SURE = 0.977
"""One-sided confidence from which the difference of two candidates' losses is no chance: with many
images two standard errors."""


Groups = npt.NDArray[np.str_] | None
"""Groups of images, as `Split.groups`."""


class Judged(NamedTuple):
    """What the validation images say of a training; in the order of their names.

    Attributes:
        losses: Shape (n_images,), loss on each, after the temperature.
        score: Accuracy or mAP.
        groups: Their groups.
    """

    losses: FloatArray
    score: float
    groups: Groups


class Results:
    """The trainings of a search so far, and the losses on held-out images.

    Args:
        run: Run of the search, which holds those of its candidates.
        rows: Trainings before the search was stopped.
        train: Training images.

    Attributes:
        rows: A row for each training, in their order.
    """

    def __init__(self, run: Run, rows: Sequence[Tried], train: Split) -> None:
        self.rows = list(rows)
        self._run = run
        self._train = train
        # Each training is over once it is looked at: its files are read once.
        self._judged: dict[tuple[str, int], Judged] = {}

    def find(self, name: str, fold: int = 0) -> Tried | None:
        """Return the row of a training; None if there was none."""
        found = (row for row in self.rows if (row.candidate, row.fold) == (name, fold))
        return next(found, None)

    def add(self, candidate: Candidate, fold: int, seconds: float, note: str) -> Tried:
        """Add the row of a training, and return it.

        Args:
            candidate: Candidate.
            fold: Index of the fold that it was not trained on.
            seconds: Time that it took.
            note: Reason why it failed; empty if it did not.

        Raises:
            StorageError: If its files cannot be read for now.
        """
        run = folder_of(self._run, candidate.name, fold)
        accuracy, loss, words = None, None, candidate.words
        try:
            if not note:
                judged = self._judged[candidate.name, fold] = measured(run)
                accuracy, loss = judged.score, float(judged.losses.mean())
                if self.undone(candidate.name, fold):
                    words += ", undone: it was no better than the frozen backbone"
        except StorageError:
            raise
        except ConvscopeError as error:
            note = str(error)
        self.rows.append(Tried(candidate.name, fold, words, seconds, accuracy, loss, note))
        return self.rows[-1]

    def undone(self, name: str, fold: int = 0) -> bool:
        """Return whether a fine-tuning lost against the frozen backbone, and is that again."""
        return bool(folder_of(self._run, name, fold).state.get("rolled_back", False))

    def reject(self, name: str, note: str) -> None:
        """Note why a candidate that was tried on the first fold may not win."""
        tried = self.find(name)
        assert tried is not None
        self.rows.remove(tried)
        self.rows.append(replace(tried, note=note))

    def folds_of(self, name: str) -> set[int]:
        """Return the indices of the folds that a candidate was tried on, and none failed on."""
        return {
            row.fold
            for row in self.rows
            if row.candidate == name and not (row.fold and self.is_spoilt(row.fold))
        }

    def is_spoilt(self, fold: int) -> bool:
        """Return whether a training on a fold failed, so that no two are compared on it."""
        return any(row.note for row in self.rows if row.fold == fold)

    def mean_seconds(self, name: str) -> float:
        """Return the mean time of a candidate's trainings."""
        return float(np.mean([row.seconds for row in self.rows if row.candidate == name]))

    def losses(self, name: str, folds: Iterable[int] = (0,)) -> FloatArray:
        """Return the loss on each validation image of some folds, one fold after another."""
        joined: FloatArray = np.concatenate([self._of(name, fold).losses for fold in folds])
        return joined

    def _of(self, name: str, fold: int) -> Judged:
        if (name, fold) not in self._judged:
            self._judged[name, fold] = measured(folder_of(self._run, name, fold))
        return self._judged[name, fold]

    def all_losses(self, name: str) -> FloatArray:
        """Return the losses of a head on training and validation images, each without them.

        Not a number where an image was not held out: all of training, with a penalty of the user's.
        """
        held_out = np.full(len(self._train), np.nan, np.float32)
        try:
            found = np.load(folder_of(self._run, name, 0).held_out_file)
        except (OSError, ValueError):
            found = held_out
        if (found.shape, found.dtype) == (held_out.shape, held_out.dtype):
            held_out = found
        return np.concatenate([held_out, self.losses(name)])

    def standing(self) -> list[str]:
        """Return the names of the candidates that may win, the lowest loss first.

        Those tried on more folds are compared on these; others have lost on the first.
        """
        names = list(dict.fromkeys(row.candidate for row in self.rows))
        out = {row.candidate for row in self.rows if row.note and row.fold == 0}
        names = [name for name in names if name not in out]
        most = max((len(self.folds_of(name)) for name in names), default=0)

        def rank(name: str) -> tuple[bool, float]:
            folds = sorted(self.folds_of(name))
            return len(folds) < most, float(self.losses(name, folds).mean())

        return sorted(names, key=rank)

    def best_head(self, names: Iterable[str], cost: Callable[[str], float]) -> str:
        """Return the head on a frozen backbone with the lowest loss on images not learnt.

        Only of equal ones the quicker network: to let it win unless it was worse by a standard
        error cost 1 to 7 % of the loss on images that had no part in the choice.

        Args:
            names: Candidates to choose from, of which at least one may win.
            cost: Function that returns the time for an image with a candidate.
        """
        tried = [name for name in self.standing() if name in names]
        losses = {name: self.all_losses(name) for name in tried}
        shared = ~np.isnan(sum(losses.values()))
        return min(
            tried, key=lambda name: (round(float(losses[name][shared].mean()), 4), cost(name))
        )

    def is_clear(self, first: str, second: str) -> bool:
        """Return whether the first of two candidates has a clearly lower loss than the second.

        Two heads are compared on all images, others on the folds that both were tried on.
        """
        names = self.standing()
        if first not in names or second not in names:
            return first in names
        if {first, second} <= set(HEADS):
            return self.is_lower_on_all(first, second)
        shared = sorted(self.folds_of(first) & self.folds_of(second))
        groups = joined_if_all([self._of(first, fold).groups for fold in shared])
        return is_lower(self.losses(first, shared), self.losses(second, shared), groups)

    def is_lower_on_all(self, first: str, second: str) -> bool:
        """Return whether the first of two heads has a clearly lower loss on all images."""
        groups = joined_if_all([self._train.groups, self._of(first, 0).groups])
        return is_lower(self.all_losses(first), self.all_losses(second), groups)


def is_lower(first: FloatArray, second: FloatArray, groups: Groups = None) -> bool:
    """Return whether losses on the same images are lower by more than chance explains.

    Args:
        first: Shape (n_images,); not a number where an image has no loss.
        second: The same for the other candidate.
        groups: Groups of the images, which then are what is sampled.
    """
    from scipy.special import stdtrit

    known = ~np.isnan(second - first)
    gaps = (second - first)[known]
    if groups is not None:
        gaps = contributions(gaps, groups[known])
    if len(gaps) < 2:
        return False
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    return bool(gaps.mean() > stdtrit(len(gaps) - 1, _SURE) * error)


def measured(run: Run) -> Judged:
    """Return what the validation images say of a finished run.

    Raises:
        RunError: If the run's files are damaged.
    """
    from convscope.classifier.decisions import LEAST_PROB, image_losses
    from convscope.classifier.keras_model import spec_of, which_weights
    from convscope.evaluation.calibration import with_temperature
    from convscope.evaluation.predictions import read_predictions

    said = read_predictions(run.predictions_file)[0]["val"]
    temperature = spec_of(run, which_weights(run, None)).temperature
    probs = with_temperature(said, temperature).probs
    order = np.argsort(said.ids, kind="stable")
    losses = image_losses(probs, said.labels, LEAST_PROB)[order].astype(np.float32)
    groups = None if said.groups is None else said.groups[order]
    return Judged(losses, score_of(run.metrics["val"]), groups)
