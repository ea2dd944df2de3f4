"""Which candidates a search tries, and in which order: only what fits into its time."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from convscope.datasets import settings_of
from convscope.planning.settle import Request
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.recipes.finetune_photos import finetune_photos
from convscope.run import Run
from convscope.studies.search.candidates import (
    FIRST,
    FROM_SCRATCH,
    FROZEN,
    HEADS,
    LARGER,
    MIRRORED,
    NETWORK,
    SCRATCH,
    SINGLE_VIEW,
    TURNED,
    Candidate,
    folder_of,
)
from convscope.studies.search.clock import Clock
from convscope.studies.search.results import Results

_LEAST_EPOCHS = 4
"""Epochs of fine-tuning, of which fewer lost against the frozen backbone."""

_LEAST_SCRATCH_S = 20.0
"""Seconds of which less, to train from random weights, would go into compiling the network."""

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


class Proposals:
    """The candidates of a search, each after the results of those before.

    Args:
        run: Run of the search.
        request: Settings of the user, which no candidate changes.
        config: Settings of the first candidate.
        results: Results, to which those of each group are added before the next one is taken.
        clock: Time of the search.
        at_once: Number of candidates that can be trained at once.
        from_scratch: Whether a network that starts from random weights is worth trying.
        progress: Told what mirrored images do.

    Attributes:
        known: Candidates that were proposed, by name.
        left_out: What was not proposed for lack of time, for people.
    """

    def __init__(
        self,
        run: Run,
        request: Request,
        config: RunConfig,
        results: Results,
        clock: Clock,
        at_once: int,
        from_scratch: bool,
        progress: Progress,
    ) -> None:
        self.known: dict[str, Candidate] = {}
        # What is mirrored is turned too only where the user says so: on solar cells, whose bars
        # have a direction, copies in all orientations raised the loss, on aerial photos they
        # lowered it.
        turns = bool(request.chosen.get("augment.turn"))
        self._copies = TURNED if turns else MIRRORED
        self._kind = "mirrored and turned" if turns else "mirrored"
        self.left_out: list[str] = []
        self._run = run
        self._request = request
        self._config = config
        self._results = results
        self._clock = clock
        self._at_once = at_once
        self._from_scratch = from_scratch
        self._progress = progress

    def groups(self) -> Iterator[list[Candidate]]:
        """Yield candidates that are worth trying at once; those that were tried before, too."""
        for group in self._in_order():
            self.known |= {each.name: each for each in group}
            yield group

    def best_head(self, names: Iterable[str]) -> str:
        """Return the best of some heads on a frozen backbone, of which one was tried."""
        return self._results.best_head(
            [name for name in names if name in self.known],
            lambda name: self._clock.cost(self.known[name].settings),
        )

    def _in_order(self) -> Iterator[list[Candidate]]:
        # The time is unknown before the first, which shows the speed of the machine.
        yield [Candidate(FIRST, f"{self._where({})}, frozen", FROZEN)]
        first = self._results.find(FIRST)
        if first is None or first.note:
            return
        if self._from_scratch:
            yield from self._scratch_that_fits()
            if self._results.find(SCRATCH) and self._results.is_clear(SCRATCH, FIRST):
                return
        yield from self._larger_that_fit()
        chosen = self._request.chosen
        # Digits are not mirrored, says their dataset.
        mirror: bool | None = chosen.get(
            "augment.flip", settings_of(self._config.data).get("augment.flip")
        )
        # Where the user said that they keep their classes, the single views have none.
        if mirror is None or (mirror and "backbone.views" not in chosen):
            base = self.known[self._base()]
            if self._results.find("mirrored") or self._clock.fits_head(
                base, views=self._copies["backbone.views"]
            ):
                settings = {**base.settings, **self._copies, **self._chosen_by(base, "last_map")}
                yield [Candidate("mirrored", self._words_mirrored(base), settings)]
                mirror = mirror or self._keeps_the_classes(base.name)
            else:
                self.left_out.append(f"{self._kind} images")
        yield from self._fine_tuned(mirror=bool(mirror))

    def _scratch_that_fits(self) -> Iterator[list[Candidate]]:
        if (
            self._results.find(SCRATCH)
            or self._clock.for_long(self.known[FIRST]) > _LEAST_SCRATCH_S
        ):
            words = "a network from scratch, on the images at their own size"
            yield [Candidate(SCRATCH, words, FROM_SCRATCH, pace=True, by_time=True)]
        else:
            self.left_out.append("a network from scratch")

    def _larger_that_fit(self) -> Iterator[list[Candidate]]:
        """Yield the largest that fits; where it does not clearly help, a smaller one too."""
        unclear, is_settled = set(), False
        left = self._larger()
        tried = {each.name for each in left if self._results.find(each.name)}
        if left and not any(each.name in tried or self._clock.fits_head(each) for each in left):
            self.left_out.append("a larger network")
        while left:
            group: list[Candidate] = []
            while left and len(group) < self._at_once:
                larger = left.pop(0)
                is_idle = is_settled or larger.settings.get("model") in unclear
                if larger.name in tried or (not is_idle and self._clock.fits_head(larger)):
                    group.append(larger)
            yield group
            for larger in group:
                is_settled |= self._results.is_clear(larger.name, FIRST)
                unclear.add(larger.settings.get("model"))

    def _larger(self) -> list[Candidate]:
        """Return candidates with larger networks, the largest first.

        Where the network is set, with larger images for it.
        """
        from convscope.models.backbones import BACKBONES
        from convscope.models.weights import weights_at_hand

        chosen, size = self._request.chosen, self._config.image_size
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
            for name, network in zip(LARGER, networks, strict=False)
        ]

    def _base(self) -> str:
        """Return the candidate whose mirrored images are worth trying, or were tried."""
        tried = self._results.find("mirrored")
        if tried is None:
            return self.best_head(SINGLE_VIEW)
        known = [each for each in self.known.values() if each.name in SINGLE_VIEW]
        return {self._words_mirrored(each): each.name for each in known}.get(tried.words, FIRST)

    def _keeps_the_classes(self, base: str) -> bool:
        """Find out by held-out images whether a mirrored image keeps its class.

        Args:
            base: Candidate with the same network, without mirrored images.
        """
        tried = self._results.find("mirrored")
        if tried is None or tried.note:
            return False
        plain, both = self._results.all_losses(base), self._results.all_losses("mirrored")
        keeps = not self._results.is_lower_on_all(base, "mirrored")
        if not keeps:
            self._results.reject("mirrored", f"{self._kind} images raise the held-out loss")
        turned = self._copies is TURNED
        if keeps:
            verdict = "these copies do no harm" if turned else "mirroring does no harm"
        elif turned:
            verdict = (
                "fine-tuning will turn images, since augment.turn says so, but not mirror them"
            )
        else:
            verdict = (
                "images will not be mirrored, since that may change the class, as with letters"
            )
        self._progress.say(
            f"Loss on held-out images {np.nanmean(both):.4f} with {self._kind} ones, "
            f"{np.nanmean(plain):.4f} without: {verdict}"
        )
        return keeps

    def _fine_tuned(self, *, mirror: bool) -> Iterator[list[Candidate]]:
        """Yield the last stage fine-tuned, with the better network and size.

        With the others it would start behind.

        Args:
            mirror: Whether images may be mirrored.
        """
        singles = [name for name in HEADS if self._is_single(name)]
        if not singles:
            return
        best = self.known[self.best_head(singles)]
        for views in (finetune_photos().backbone.views, 2):
            epochs = self._clock.epochs(views, best.network)
            if epochs >= _ENOUGH_EPOCHS:
                break
        if not self._results.find("fine-tuned") and epochs < _LEAST_EPOCHS:
            self.left_out.append("fine-tuning")
            return
        settings = {
            "recipe": "finetune-photos",
            "epochs": max(epochs, _LEAST_EPOCHS),
            "augment.flip": mirror,
            "backbone.views": views,
            **best.network,
            **self._chosen_by(best, "penalty", "last_map"),
        }
        words = f"{self._where(best.network)}, last stage fine-tuned"
        yield [Candidate("fine-tuned", words, settings, pace=True)]

    def _is_single(self, name: str) -> bool:
        """Return whether a candidate was tried whose backbone is one network, not several."""
        from convscope.models.backbones import BACKBONES

        if name not in self.known or self._results.find(name) is None:
            return False
        model = self.known[name].settings.get("model", self._config.model)
        return not BACKBONES.get(model).parts

    def _where(self, settings: Mapping[str, Any]) -> str:
        model, size = (settings.get(key, getattr(self._config, key)) for key in NETWORK)
        return f"{model} at {size} px"

    def _chosen_by(self, candidate: Candidate, *choices: str) -> dict[str, float]:
        """Return settings of the head as a candidate chose them, so that others need not."""
        state = folder_of(self._run, candidate.name, 0).state
        return {f"head.{choice}": state[choice] for choice in choices if choice in state}

    def _words_mirrored(self, base: Candidate) -> str:
        return f"{base.words}, on {self._kind} images too"
