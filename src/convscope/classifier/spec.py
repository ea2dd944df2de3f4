"""Everything besides the weights that using a model needs, in one file without a framework."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from convscope.classifier.rejection import LARGEST_DISTANCE, LARGEST_ENERGY
from convscope.classifier.shares import CONFIDENCES, Shares
from convscope.errors import RunError
from convscope.images.deep import WHITES
from convscope.images.fit import FITS, MAX_SIDE, Fit
from convscope.images.orientation import orientations
from convscope.storage import write_text

FORMAT = 3
"""Version of the file; raised when an older convscope could misread it."""

_WITHOUT_TURNS = 2
"""Version of a file without turned views, which an older convscope reads too."""

TEMPERATURES = (0.05, 20.0)
"""Lowest and highest temperature that is fitted or accepted."""

STEPS = ("resizing", "views", "temperature")
"""Steps around a network that an exported model may do itself."""

_MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class Views:
    """Versions of an image over which predictions are averaged (test-time augmentation).

    Attributes:
        mirror: Whether the mirror image is included.
        shift: Share of the side by which shifted versions are moved, both ways along the diagonal,
            in [0, 1); 0 for none.
        turn: Whether all of these are included as turned by quarters of a circle too.
    """

    mirror: bool = False
    shift: float = 0.0
    turn: bool = False

    @property
    def several(self) -> bool:
        """Whether there are views besides the image itself."""
        return self != Views()

    @property
    def orientations(self) -> list[int]:
        """Orientations of the views, that of the image first; see `images.orientation`."""
        return orientations(mirrored=self.mirror, turned=self.turn)


@dataclass(frozen=True)
class ClassifierSpec:
    """A classifier without its weights: from a file to pixels, from outputs to a prediction.

    The file of weights takes raw pixels, 0..255; resizing and scaling are inside it. Views and
    temperature are not: they are here.

    Attributes:
        class_names: Names in the order of the model's outputs, at least 2.
        height: Rows to which an image file is decoded, in pixels.
        width: Columns to which an image file is decoded, in pixels.
        channels: 1 for grey, 3 for RGB.
        fit: Method of fitting an image of another aspect ratio to `height` x `width`.
        white: Value that becomes 255 in images whose files do not say what white is
            (floating-point, 32-bit); None guesses it from each file: the training images had no
            such ones, or the run is older than this.
        decoder_version: Version of the decoder of the training images.
        scaling: Name of the scaling inside the model, for the reader.
        temperature: Divisor of the logits, in `TEMPERATURES`; 1 for none.
        views: Views over which predictions are averaged.
        reject_below: Least energy of an answer, see `rejection.energy`; an image below it is
            rejected where that is asked for. 0 if it is unknown: no image is.
        reject_above: Largest "distance" of an answer, an output of an exported model (see
            `familiarity.Familiarity`), which decides instead of the energy; 0 if it has none.
        val_shares: Shares of its answers on validation images, if known.
        multi_label: Whether an image may have any number of classes: each class has a probability
            of its own, and a threshold.
        thresholds: Least probability of each class that is part of an answer, in the order of the
            names; empty where an image has exactly one class.
        run_id: Name of the run that trained it.
        licence: Licence of the training data, if known.
        weights_sha256: Digest of the weights that this spec belongs to.
        in_graph: Names of the steps that the model's own file does, of `STEPS`, which nobody must
            do again; none in a run.
    """

    class_names: tuple[str, ...]
    height: int
    width: int
    channels: int
    fit: Fit = "squash"
    white: int | None = None
    decoder_version: int = 1
    scaling: str = "unit"
    temperature: float = 1.0
    views: Views = field(default_factory=Views)
    reject_below: float = 0.0
    reject_above: float = 0.0
    val_shares: Shares = field(default_factory=Shares)
    multi_label: bool = False
    thresholds: tuple[float, ...] = ()
    run_id: str = ""
    licence: str | None = None
    weights_sha256: str = ""
    in_graph: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = {
            "class_names": len(self.class_names) >= 2
            and all(isinstance(name, str) for name in self.class_names),
            "height": _is_int(self.height) and 1 <= self.height <= MAX_SIDE,
            "width": _is_int(self.width) and 1 <= self.width <= MAX_SIDE,
            "channels": _is_int(self.channels) and self.channels in (1, 3),
            "fit": self.fit in FITS,
            "white": self.white is None or (_is_int(self.white) and self.white in WHITES),
            "decoder_version": _is_int(self.decoder_version),
            "scaling": isinstance(self.scaling, str),
            "temperature": _within(self.temperature, *TEMPERATURES),
            "views.mirror": isinstance(self.views.mirror, bool),
            "views.turn": isinstance(self.views.turn, bool)
            and (not self.views.turn or self.height == self.width),
            "views.shift": _within(self.views.shift, 0, 1) and self.views.shift < 1,
            "reject_above": _within(self.reject_above, 0, LARGEST_DISTANCE),
            "reject_below": _within(self.reject_below, 0, LARGEST_ENERGY),
            "val_shares": _are_shares(
                self.val_shares, len(self.class_names), exclusive=not self.multi_label
            ),
            "multi_label": isinstance(self.multi_label, bool),
            "thresholds": len(self.thresholds) == self.multi_label * len(self.class_names)
            and all(_within(each, 0, 1) for each in self.thresholds),
            "run_id": isinstance(self.run_id, str),
            "licence": self.licence is None or isinstance(self.licence, str),
            "weights_sha256": isinstance(self.weights_sha256, str),
            "in_graph": set(self.in_graph) <= set(STEPS),
        }
        for name, holds in checks.items():
            if not holds:
                raise ValueError(f"{name} has a value that no classifier can have")

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            StorageError: If it cannot be written.
        """
        write_text(path, self.to_json())

    def to_json(self) -> str:
        """Return the text of the file."""
        content: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        if not self.views.turn:
            content["format"] = _WITHOUT_TURNS
            del content["views"]["turn"]
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> "ClassifierSpec":
        """Read what `write` wrote; everything in the file is checked before use.

        Raises:
            RunError: If the file is missing or damaged, or a newer convscope wrote it.
        """
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError("it is too large")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RunError(f"{path} is missing") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from None
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, source: str) -> "ClassifierSpec":
        """Return the spec in a text of `to_json`; everything in it is checked before use.

        Args:
            text: Text of the file.
            source: Name of its source, for messages.

        Raises:
            RunError: If it is damaged, or a newer convscope wrote it.
        """
        try:
            content: Any = json.loads(text)
            found = content.pop("format")
            if _is_int(found) and found > FORMAT:
                raise RunError(f"{source} was written by a newer convscope; upgrade convscope")
            if _is_int(found) and content.keys() - {each.name for each in fields(cls)}:
                raise RunError(f"{source} was written by a newer convscope; upgrade convscope")
            for name in ("class_names", "in_graph", "thresholds"):
                content[name] = tuple(content.get(name, ()))
            shares = content.pop("val_shares", {})
            for name in ("classes", "confidences"):
                shares[name] = tuple(shares.get(name, ()))
            if len(shares["confidences"]) not in (0, len(CONFIDENCES)):
                shares = {}  # in the intervals of another version, which compare with none of ours
            views = Views(**content.pop("views"))
            return cls(views=views, val_shares=Shares(**shares), **content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunError(f"{source} is damaged: {error}") from None


def _are_shares(shares: Shares, n_classes: int, *, exclusive: bool) -> bool:
    if not _is_int(shares.n_images) or shares.n_images < 0:
        return False
    if not shares.n_images:
        return not shares.classes and not shares.confidences
    return all(
        len(found) == n
        and all(_within(each, 0, 1) for each in found)
        and (not sum_is_1 or abs(sum(found) - 1) < 0.1)
        for found, n, sum_is_1 in (
            (shares.classes, n_classes, exclusive),
            (shares.confidences, len(CONFIDENCES), True),
        )
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: object, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and low <= value <= high
