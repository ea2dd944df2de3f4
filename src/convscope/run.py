"""The run folder, with a property for each file in it."""

import contextlib
import datetime
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from convscope import heartbeat, interrupts, records
from convscope.errors import RunError, StorageError, UnknownNameError
from convscope.locks import LOCK, STATE_LOCK, exclusive
from convscope.paths import short_name
from convscope.remote import address_of, folder_path
from convscope.storage import storage_errors, write_text
from convscope.wording import command_line, composed, has_controls
from convscope.workplace import HEARTBEAT, at_work, is_taken

FORMAT = 1
"""Version of the run folder's layout; raised when an older convscope could misread it."""

_OF_FILE_MANAGERS = {".DS_Store", "Thumbs.db", "desktop.ini"}

WEIGHTS = ("best", "last", "refit")
"""Names of saved models: of the best epoch, of the last one, and trained on all but test images."""

_SMALL = 1_000_000
"""Bytes of the largest file that a list of runs reads."""

ROOT = Path("runs")
"""Folder of runs without an explicit one, below the current directory."""


class SmallerImages(NamedTuple):
    """The first epochs of a run, if they trained on smaller images.

    Attributes:
        n_epochs: Number of these epochs.
        size: Height and width of the images in words ("24x24 pixels").
    """

    n_epochs: int
    size: str

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "SmallerImages | None":
        """Return what a run's `run.json` says; None if there were none, or it is not legible."""
        try:
            height, width = map(int, state["smaller_images"]["size"])
            return cls(int(state["smaller_images"]["epochs"]), f"{height}x{width} pixels")
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


class Run:
    """One training run and all its results.

    Create one with `create`, find one with `open`. Two of the same folder are equal.
    """

    def __init__(self, path: Path) -> None:
        self._given = Path(path)
        self._absolute = _absolute(self._given)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self._real == other._real

    def __hash__(self) -> int:
        return hash(self._real)

    # Files and folders.

    @property
    def path(self) -> Path:
        """Run folder as it was given, absolute where the working folder is another one by now."""
        moved = _absolute(self._given) != self._absolute
        return self._absolute if moved else self._given

    @property
    def _real(self) -> str:
        return os.path.realpath(self._absolute)  # pathlib's raises for links in a circle

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def called(self) -> Path | str:
        """What a command calls it, as `open` finds it: its name below `runs/`, else where it is."""
        if self.path.resolve().parent == ROOT.resolve():
            return Path(self.name)
        return address_of(self.path) or self.path

    @property
    def state_file(self) -> Path:
        """Status, dates, each opening of the test set."""
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        """Resolved settings, which alone reproduce the run."""
        return self.path / "config.yaml"

    @property
    def classes_file(self) -> Path:
        """Class names, in the order of the model's outputs."""
        return self.path / "classes.json"

    @property
    def environment_file(self) -> Path:
        """Versions and machine."""
        return self.path / "environment.json"

    @property
    def split_file(self) -> Path:
        """Table of all images: name, label, part, hash."""
        return self.path / "split.csv"

    @property
    def results_file(self) -> Path:
        """Table with a row per epoch."""
        return self.path / "results.csv"

    @property
    def heads_file(self) -> Path:
        """Table of the heads that were tried on a backbone, if any."""
        return self.path / "heads.csv"

    @property
    def metrics_file(self) -> Path:
        """Metrics from `evaluate`: validation and test."""
        return self.path / "metrics.json"

    @property
    def predictions_file(self) -> Path:
        """Predictions for each validation and test image."""
        return self.path / "predictions.parquet"

    @property
    def out_of_fold_file(self) -> Path:
        """Predictions for images that were learnt in the refit, each by a network without it."""
        return self.path / "out_of_fold.parquet"

    @property
    def held_out_file(self) -> Path:
        """Loss on each training image by a head without it, with the penalty that was chosen."""
        return self.path / "held_out.npy"

    @property
    def calibration_file(self) -> Path:
        """Temperature of older runs; newer ones have it in `classifier_file`."""
        return self.path / "calibration.json"

    @property
    def report_page(self) -> Path:
        """Page with everything, for people."""
        return self.path / "report.html"

    @property
    def card_file(self) -> Path:
        """Model card: intended use, accuracy, limits."""
        return self.path / "MODEL_CARD.md"

    @property
    def curves_picture(self) -> Path:
        """Loss and accuracy by epoch."""
        return self.path / "curves.png"

    @property
    def confusion_picture(self) -> Path:
        """Picture of the confusion matrix, on the test images."""
        return self.path / "confusion_matrix.png"

    @property
    def confusion_table(self) -> Path:
        """Confusion matrix as numbers: a row per true class."""
        return self.path / "confusion_matrix.csv"

    @property
    def mistakes_table(self) -> Path:
        """Classes that were wrongly named or missed, where an image may have any number."""
        return self.path / "mistakes.csv"

    @property
    def mistakes_picture(self) -> Path:
        """Picture of `mistakes_table`, on the test images."""
        return self.path / "mistakes.png"

    @property
    def samples_picture(self) -> Path:
        """Some training images with their class names."""
        return self.path / "samples.png"

    @property
    def augmented_picture(self) -> Path:
        """Some training images, and versions of each; where the run augments them."""
        return self.path / "augmented.png"

    @property
    def explanations_dir(self) -> Path:
        """Pages that explain the network's answers for images."""
        return self.path / "explanations"

    @property
    def evaluations_dir(self) -> Path:
        """Folders of evaluations on other labelled images, a folder for each set."""
        return self.path / "evaluations"

    @property
    def exports_dir(self) -> Path:
        """Models for use elsewhere, as written by `convscope export`."""
        return self.path / "export"

    @property
    def gallery_picture(self) -> Path:
        """Images behind a number, as last drawn by `convscope gallery`."""
        return self.path / "gallery.png"

    @property
    def embedding_file(self) -> Path:
        """Features of image files, as last written by `convscope embed`."""
        return self.path / "embedding.parquet"

    @property
    def similar_picture(self) -> Path:
        """An image and the training images most similar to it, as last drawn."""
        return self.path / "similar.png"

    @property
    def robustness_file(self) -> Path:
        """Accuracy under common corruptions."""
        return self.path / "robustness.json"

    @property
    def robustness_picture(self) -> Path:
        """Curves of accuracy under common corruptions."""
        return self.path / "robustness.png"

    @property
    def weights_dir(self) -> Path:
        """Folder of the saved models."""
        return self.path / "weights"

    def weights(self, which: str) -> Path:
        """Saved model of one of `WEIGHTS`: raw pixels in, probabilities out.

        "frozen", beside these: the head on a frozen backbone, before layers of that were trained.
        """
        return self.weights_dir / f"{which}.keras"

    def classifier_file(self, which: str) -> Path:
        """Everything but the weights that using one of `WEIGHTS` needs, if evaluated."""
        return self.weights_dir / f"{which}.json"

    def familiarity_file(self, which: str) -> Path:
        """What a frozen backbone's features of the training images have in common, if evaluated."""
        return self.weights_dir / f"{which}.npz"

    def of_other_weights(self, file: Path, which: str) -> Path:
        """Name of a result of `evaluate` for other weights than those that the recipe evaluates.

        Args:
            file: Name for the recipe's weights, such as `metrics_file`.
            which: One of `WEIGHTS`.
        """
        return file.with_stem(f"{file.stem}-{which}")

    @property
    def refit_dir(self) -> Path:
        """Run folder of the training on all but test images, while it lasts."""
        return self.path / "refit"

    @property
    def snapshot_file(self) -> Path:
        """All that training needs to resume as if it had never stopped."""
        return self.weights_dir / "snapshot.npz"

    @property
    def tried_file(self) -> Path:
        """Table of what was tried before this way of training was chosen, if there was a search."""
        return self.path / "tried.csv"

    @property
    def search_file(self) -> Path:
        """State of a search that is not finished."""
        return self.path / "search.json"

    @property
    def search_dir(self) -> Path:
        """Folder of the runs of a search that is not finished."""
        return self.path / "search"

    @property
    def tensorboard_dir(self) -> Path:
        """Event files, if TensorBoard is used."""
        return self.path / "tensorboard"

    # Creating and finding.

    @classmethod
    def create(cls, path: Path | None, name: str) -> "Run":
        """Create a new run folder.

        Args:
            path: Folder; an existing one must be empty. None creates `runs/NAME`, or `runs/NAME-2`
                and so on if that is taken.
            name: Name of the run, if `path` is None.

        Raises:
            RunError: If `path` is taken.
            StorageError: If the folder cannot be created.
        """
        if path is not None:
            path = Path(path)
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    path.mkdir()
                except FileExistsError:
                    cls.require_free(path)
            return cls(path)
        name = short_name(name, 200)
        with storage_errors(ROOT / name):
            ROOT.mkdir(parents=True, exist_ok=True)
            for number in range(1, 100_000):
                path = ROOT / (name if number == 1 else f"{name}-{number}")
                try:
                    # mkdir fails if it exists, so two processes never get the same folder.
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
        raise RunError(f"too many runs are called {ROOT / name}; give this one a name with --out")

    @classmethod
    def require_free(cls, path: Path) -> None:
        """Reject a path that `create` would not take.

        Raises:
            RunError: If it is a file, or a folder that is not empty.
            StorageError: If the folder cannot be read.
        """
        if not os.path.lexists(path):
            return
        if not path.is_dir():
            raise RunError(f"{path} is a file; choose another --out")
        with storage_errors(path):
            taken = any(not is_remains(item) for item in path.iterdir())
        if taken:
            run = cls(path)
            advice = (
                f"continue it with: {command_line('train', '--resume', path)}"
                if run.state_file.exists() or run.search_file.exists()
                else "choose another --out"
            )
            raise RunError(
                f"{path} exists and is not empty, and two runs never share a folder; {advice}"
            )

    def foreign_names(self, *more: str) -> set[str]:
        """Return the names in the folder that no command of convscope uses.

        Args:
            more: Further known names.
        """
        own = self._own_names() | set(more) | _OF_FILE_MANAGERS
        with storage_errors(self.path):
            return {
                item.name
                for item in self.path.iterdir()
                if item.name not in own and not is_remains(item)
            }

    def _own_names(self) -> set[str]:
        """Return the names in the folder that commands of convscope use."""
        # Every path above is a property, so its name is known here.
        members = {name: value for name, value in vars(Run).items() if isinstance(value, property)}
        paths = [name for name, p in members.items() if p.fget.__annotations__["return"] is Path]
        own = {getattr(self, name).name for name in paths if name != "path"}
        judged = (self.metrics_file, self.predictions_file)
        confused = (self.confusion_table, self.confusion_picture)
        mistaken = (self.mistakes_table, self.mistakes_picture)
        for file in (*judged, *confused, *mistaken):
            own |= {self.of_other_weights(file, which).name for which in WEIGHTS}
        return own

    @classmethod
    def open(cls, path: "Path | str | Run") -> "Run":
        """Find a run by its folder, or by its name below `runs/`.

        Raises:
            RunError: If there is none, or a newer convscope created it.
        """
        if isinstance(path, Run):
            return path
        path = folder_path(path, "RUN")
        for place in (path, ROOT / path):
            run = cls(place)
            if run.state_file.is_file():
                found = run.state.get("format", FORMAT)
                if not isinstance(found, int) or found > FORMAT:
                    raise RunError(f"{place} was made by a newer convscope; upgrade convscope")
                return run
        address = address_of(path)
        if address is not None and all(map(is_remains, path.glob("*"))):
            raise RunError(f"there is nothing at {address}")
        what = "is not a run folder (it holds no run.json)" if path.exists() else "does not exist"
        if path.is_file():
            what += "; exported files, which predict, serve and evaluate --on take, end in .onnx"
        # Runs of a comparison, a ladder and a cross-validation.
        inner = [
            file for name in ("runs", "rungs", "folds") for file in path.glob(f"{name}/*/run.json")
        ]
        if inner:
            raise RunError(f"{path} {what}; name a run in it, such as {min(inner).parent}")
        raise RunError(f"{path} {what}; 'convscope runs' lists the runs below {ROOT}/")

    @classmethod
    def find_all(cls, root: Path | str) -> list["Run"]:
        """Return the runs directly below `root`, the oldest first."""
        # Of an address the tables are enough, not the weights.
        root = folder_path(root, "FOLDER", up_to=_SMALL)
        if not root.is_dir():
            raise RunError(f"there is no folder {root}; runs appear there after 'convscope train'")
        runs = [cls(path.parent) for path in root.glob("*/run.json")]

        def age(run: Run) -> tuple[str, str]:
            try:
                return str(run.state.get("created", "")), run.name
            except RunError:
                return "", run.name

        return sorted(runs, key=age)

    @classmethod
    def require_spare(cls, place: Path, usual: Path | None = None) -> Path:
        """Return the path of a result, unless it belongs to a run, this or another one.

        In the folders of its exports and evaluations there is room for others.

        Args:
            place: File or folder to be written.
            usual: Place in a run where such results are kept.

        Raises:
            RunError: If another result of the run is kept there.
        """
        whole = Path(os.path.realpath(place))  # pathlib's raises for links in a circle
        if usual is not None and whole == Path(os.path.realpath(usual)):
            return place
        for folder in whole.parents:
            run, inner = cls(folder), folder / whole.relative_to(folder).parts[0]
            is_run = os.path.isfile(run.state_file)  # noqa: PTH113 (pathlib's may raise)
            is_own = inner.name in run._own_names() or is_remains(inner)
            with_room = {run.exports_dir, run.evaluations_dir} & set(whole.parents)
            if is_run and is_own and not with_room:
                raise RunError(f"{place} belongs to the run {run.path}; choose another place")
        return place

    @contextmanager
    def training_lock(self) -> Iterator[None]:
        """Keep other processes from training into this folder, and write a heartbeat in it.

        Raises:
            LockTakenError: If another process does so now.
        """
        with at_work(self.path, "trained"):
            yield

    @property
    def is_locked(self) -> bool:
        """Whether another process works in this folder, by its lock or its heartbeat."""
        return is_taken(self.path)

    def weights_sha256(self, which: str) -> str:
        """Return the SHA-256 of the weights in a saved model, one of `WEIGHTS`.

        Only the weights count: the file around them also holds the date on which it was saved.

        Raises:
            RunError: If that model was not saved or is damaged.
        """
        path = self.weights(which)
        if not path.is_file():
            again = ("train", "--resume", self.path, *(("--refit",) if which == "refit" else ()))
            raise RunError(
                f"there is no saved model {path}; resume the run: {command_line(*again)}"
            )
        try:
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
            raise RunError(f"the saved model {path} is damaged") from None

    # Status and results.

    @property
    def state(self) -> dict[str, Any]:
        """The contents of `run.json`: "status", "created", "test_openings" and more.

        For a run that failed, "failure" has the reason: {"kind": "DivergedError", "reason": ...}.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return _read_record(self.state_file, records.STATE)

    @property
    def status(self) -> str:
        """The status of the run, in a word.

        "created", "training", "trained" (not evaluated yet), "finished", "interrupted" (Ctrl-C),
        "failed", or "killed": it claims to be training, but no process is doing so. A process on
        another host is known by its heartbeat: it counts as killed after five minutes without one.
        """
        status = str(self.state.get("status", "created"))
        # While the images are loaded, a process is at work before the status says so.
        if status != "training" and not (self.path / HEARTBEAT).exists():
            return status
        if self.is_locked:
            return "training"
        return "killed" if status == "training" else status

    def record(self, **changes: Any) -> None:
        """Change or add entries of `run.json`; None removes one."""
        self._change(lambda state: state.update(changes))

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change `run.json` without losing a simultaneous change by another command."""
        with exclusive(self.path / STATE_LOCK, wait=True):
            now = _now()
            state = self.state if self.state_file.exists() else {"format": FORMAT, "created": now}
            change(state)
            state["updated"] = now
            known = {key: value for key, value in state.items() if value is not None}
            self.write_json(self.state_file, known)

    @contextmanager
    def recording_status(self) -> Iterator[None]:
        """Record that training runs, and how it ended; see `recording_failure`."""
        with self.recording_failure():
            yield
        self.record(status="trained")

    @contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Record that training runs and, unless the body ends well, how it ended.

        A process that is killed leaves "training" behind; `status` distinguishes that from a run
        that is being trained now.

        Raises:
            KeyboardInterrupt: If it was interrupted, even if a library's cleanup after that failed
                with its own error.
        """
        self.record(status="training", failure=None, trainer=heartbeat.this_process())
        with interrupts.remembered():
            try:
                yield
            except BaseException as error:
                if interrupts.is_interrupt(error):
                    self.record(status="interrupted")
                    raise KeyboardInterrupt from error
                # The disk may be full, which must not hide the reason for stopping.
                with contextlib.suppress(StorageError):
                    reason = {"kind": type(error).__name__, "reason": str(error)}
                    self.record(status="failed", failure=reason)
                raise

    @property
    def test_openings(self) -> list[dict[str, Any]]:
        """All evaluations of this run's models on the test images, the oldest first."""
        found = self.state.get("test_openings", [])
        return [opening for opening in found if not opening.get("shown")]

    def record_test_opening(self, *, by: str, weights: str, n_images: int, **more: Any) -> None:
        """Log that the test set is about to be used.

        Args:
            by: Name of the command.
            weights: Weights that are evaluated, one of `WEIGHTS`.
            n_images: Number of test images.
            more: "shown", if a person looks and no model is evaluated; "images" and "times", the
                name of the set of images in this machine's ledger and the number of looks at it so
                far.
        """
        opening = {"at": _now(), "by": by, "weights": weights, "n_images": n_images, **more}

        def add(state: dict[str, Any]) -> None:
            state["test_openings"] = [*state.get("test_openings", []), opening]

        self._change(add)

    @property
    def smaller_images(self) -> SmallerImages | None:
        """The first epochs, if they trained on smaller images."""
        return SmallerImages.of(self.state) if self.state_file.exists() else None

    @property
    def metrics(self) -> dict[str, Any]:
        """The contents of `metrics.json`: {"val": {"accuracy": ...}, "test": {...}}.

        Raises:
            RunError: If the run has not been evaluated, or the file is damaged.
        """
        if not self.metrics_file.exists():
            raise RunError(
                f"{self.path} has no metrics yet; run: {command_line('evaluate', self.path)}"
            )
        return _read_record(self.metrics_file, records.METRICS)

    @property
    def environment(self) -> dict[str, Any]:
        """The contents of `environment.json`: versions and machine of the training.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return _read_mapping(self.environment_file)

    @property
    def class_names(self) -> list[str]:
        """The class names, in the order of the model's outputs."""
        names = _read_json(self.classes_file)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RunError(f"{self.classes_file} is damaged: it must hold a list of names")
        if any(map(has_controls, names)):
            raise RunError(f"{self.classes_file} is damaged: a name has control characters")
        return [composed(name) for name in names]

    def class_called(self, name: str) -> str:
        """Return the class of a name, in whatever form of Unicode it is written.

        Raises:
            UnknownNameError: If the run has no such class.
        """
        names = self.class_names
        if composed(name) not in names:
            raise UnknownNameError("class", name, names)
        return composed(name)

    @staticmethod
    def read_json(path: Path) -> dict[str, Any]:
        """Return the content of one of the run's JSON files that hold an object.

        Raises:
            RunError: If it is missing or damaged.
        """
        return _read_mapping(path)

    @staticmethod
    def write_json(path: Path, content: Any) -> None:
        """Write a JSON file atomically; one that holds just that keeps its date."""
        text = json.dumps(content, indent=2, ensure_ascii=False, default=records.plain) + "\n"
        # By their dates, exports and answers are called older than the results of the run.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.read_text(encoding="utf-8") == text:
                return
        write_text(path, text)


def _absolute(path: Path) -> Path:
    """Return an absolute path; the path itself where the working folder was removed."""
    try:
        return path.absolute()
    except FileNotFoundError:
        return path


def is_remains(path: Path) -> bool:
    """Tell whether a file is all that is left of a run or study that was killed at its start."""
    if path.name == "config.yaml":
        # Written before `run.json`, but a user's own may have that name too. A killed process
        # leaves its heartbeat.
        return (path.parent / HEARTBEAT).exists()
    return path.name in (LOCK, STATE_LOCK, HEARTBEAT) or path.match(".*.part*")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError):
        raise RunError(f"{path} is damaged: it cannot be read as JSON") from None


def _read_mapping(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: it must hold a JSON object")
    return content


def _read_record(path: Path, kinds: Mapping[str, records.Kind]) -> dict[str, Any]:
    content = _read_mapping(path)
    wrong = records.misfit(content, kinds)
    if wrong is not None:
        raise RunError(f"{path} is damaged: '{wrong}' is not what convscope writes there")
    return content


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
