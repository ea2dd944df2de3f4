"""The run folder: the only file that knows what is called how in it."""

import contextlib
import datetime
import hashlib
import json
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convscope import heartbeat, interrupts
from convscope.errors import LockTakenError, RunError, StorageError, UnknownNameError
from convscope.locks import exclusive
from convscope.paths import short_name, user_path
from convscope.progress import console_progress
from convscope.storage import storage_errors, write_text
from convscope.wording import command_line, composed, has_controls

FORMAT = 1
"""Version of the run folder's layout; raised when an older convscope could misread it."""

_OF_FILE_MANAGERS = {".DS_Store", "Thumbs.db", "desktop.ini"}

ROOT = Path("runs")
"""Where runs go that are given no folder, below the current directory."""


class Run:
    """One training run and everything that came of it.

    Make one with `create`, find one with `open`.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    # What lies where.

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def state_file(self) -> Path:
        """What happened: status, dates, each opening of the test set."""
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        """The resolved settings, which alone reproduce the run."""
        return self.path / "config.yaml"

    @property
    def classes_file(self) -> Path:
        """The class names, in the order of the model's outputs."""
        return self.path / "classes.json"

    @property
    def environment_file(self) -> Path:
        """Versions and machine."""
        return self.path / "environment.json"

    @property
    def split_file(self) -> Path:
        """Every image: name, label, part, hash."""
        return self.path / "split.csv"

    @property
    def results_file(self) -> Path:
        """A row per epoch."""
        return self.path / "results.csv"

    @property
    def heads_file(self) -> Path:
        """The heads that were tried on a backbone, if they were."""
        return self.path / "heads.csv"

    @property
    def metrics_file(self) -> Path:
        """What `evaluate` found: validation and test."""
        return self.path / "metrics.json"

    @property
    def predictions_file(self) -> Path:
        """What the model said about each validation and test image."""
        return self.path / "predictions.parquet"

    @property
    def calibration_file(self) -> Path:
        """The temperature of older runs; newer ones have it in `classifier_file`."""
        return self.path / "calibration.json"

    @property
    def report_page(self) -> Path:
        """All of it, for people."""
        return self.path / "report.html"

    @property
    def card_file(self) -> Path:
        """The model card: what the model is for, how well it does, where it does not."""
        return self.path / "MODEL_CARD.md"

    @property
    def curves_picture(self) -> Path:
        """Loss and accuracy by epoch."""
        return self.path / "curves.png"

    @property
    def confusion_picture(self) -> Path:
        """Which class is taken for which, on the test images."""
        return self.path / "confusion_matrix.png"

    @property
    def confusion_table(self) -> Path:
        """The confusion matrix as numbers: a row per true class."""
        return self.path / "confusion_matrix.csv"

    @property
    def samples_picture(self) -> Path:
        """Some training images with their class names."""
        return self.path / "samples.png"

    @property
    def explanations_dir(self) -> Path:
        """Pages that show how the network looks at an image."""
        return self.path / "explanations"

    @property
    def gallery_picture(self) -> Path:
        """Images behind a number, as `convscope gallery` drew them last."""
        return self.path / "gallery.png"

    @property
    def robustness_file(self) -> Path:
        """Accuracy under common corruptions."""
        return self.path / "robustness.json"

    @property
    def robustness_picture(self) -> Path:
        """The same as curves."""
        return self.path / "robustness.png"

    @property
    def weights_dir(self) -> Path:
        """The saved models."""
        return self.path / "weights"

    def weights(self, which: str) -> Path:
        """The saved model "best" or "last": raw pixels in, probabilities out."""
        return self.weights_dir / f"{which}.keras"

    def classifier_file(self, which: str) -> Path:
        """What using the model "best" or "last" takes besides it, if it was judged."""
        return self.weights_dir / f"{which}.json"

    def of_other_weights(self, file: Path, which: str) -> Path:
        """Where `evaluate` says the same of weights that the run is not known by.

        Args:
            file: Where it is said of those that the recipe judges, such as `metrics_file`.
            which: "best" or "last".
        """
        return file.with_stem(f"{file.stem}-{which}")

    @property
    def snapshot_file(self) -> Path:
        """All that training needs to go on as if it had never stopped."""
        return self.weights_dir / "snapshot.npz"

    @property
    def tensorboard_dir(self) -> Path:
        """Event files, if TensorBoard was asked for."""
        return self.path / "tensorboard"

    # Making and finding.

    @classmethod
    def create(cls, path: Path | None, name: str) -> "Run":
        """Make a new run folder.

        Args:
            path: Where; an existing folder must be empty. None makes `runs/NAME`, or `runs/NAME-2`
                and so on where that is taken.
            name: The name, where `path` is None.

        Raises:
            RunError: If `path` is taken.
            StorageError: If the folder cannot be made.
        """
        if path is not None:
            path = Path(path)
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    path.mkdir()
                except FileExistsError:
                    if not path.is_dir():
                        raise RunError(f"{path} is a file; choose another --out") from None
                    if any(not _is_remains(item) for item in path.iterdir()):
                        advice = (
                            f"continue it with: {command_line('train', '--resume', path)}"
                            if cls(path).state_file.exists()
                            else "choose another --out"
                        )
                        raise RunError(
                            f"{path} exists and is not empty, and two runs never share a folder; "
                            f"{advice}"
                        ) from None
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

    def foreign_names(self, *more: str) -> set[str]:
        """Return the names in the folder that no command of convscope gives.

        Args:
            more: Further names that are known.
        """
        # Every path above is a property: what is named there is known here.
        members = {name: value for name, value in vars(Run).items() if isinstance(value, property)}
        paths = [name for name, p in members.items() if p.fget.__annotations__["return"] is Path]
        own = {getattr(self, name).name for name in paths} | set(more) | _OF_FILE_MANAGERS
        judged = (self.metrics_file, self.predictions_file)
        for file in (*judged, self.confusion_table, self.confusion_picture):
            own |= {self.of_other_weights(file, which).name for which in ("best", "last")}
        with storage_errors(self.path):
            return {
                item.name
                for item in self.path.iterdir()
                if item.name not in own and not _is_remains(item)
            }

    @classmethod
    def open(cls, path: "Path | str | Run") -> "Run":
        """Find a run by its folder, or by its name below `runs/`.

        Raises:
            RunError: If there is none, or a newer convscope made it.
        """
        if isinstance(path, Run):
            return path
        path = user_path(path, "RUN")
        for place in (path, ROOT / path):
            run = cls(place)
            if run.state_file.is_file():
                found = run.state.get("format", FORMAT)
                if not isinstance(found, int) or found > FORMAT:
                    raise RunError(f"{place} was made by a newer convscope; upgrade convscope")
                return run
        what = "is not a run folder (it holds no run.json)" if path.exists() else "does not exist"
        raise RunError(f"{path} {what}; 'convscope runs' lists the runs below {ROOT}/")

    @classmethod
    def find_all(cls, root: Path | str) -> list["Run"]:
        """Return the runs directly below `root`, the oldest first."""
        root = user_path(root, "FOLDER")
        if not root.is_dir():
            raise RunError(f"there is no folder {root}; runs appear there after 'convscope train'")
        runs = [cls(path.parent) for path in root.glob("*/run.json")]

        def age(run: Run) -> tuple[str, str]:
            try:
                return str(run.state.get("created", "")), run.name
            except RunError:
                return "", run.name

        return sorted(runs, key=age)

    @contextmanager
    def training_lock(self) -> Iterator[None]:
        """Keep every other process from training into this folder, and give signs of life in it.

        Raises:
            LockTakenError: If one does so now.
        """
        busy = f"{self.path} is being trained by another process; wait for it or stop it"
        with exclusive(self._lock, wait=False, busy=busy) as held:
            if self.state_file.exists():
                self._require_silence(held=held)
            with heartbeat.beating(self._heartbeat):
                yield

    @property
    def is_locked(self) -> bool:
        """Whether another process trains into this folder, as far as the lock tells."""
        try:
            with exclusive(self._lock, wait=False):
                return False
        except LockTakenError:
            return True
        except StorageError:
            return False  # somebody else's folder

    def _require_silence(self, *, held: bool) -> None:
        """Refuse a run that is being trained where its lock is not seen: on another host."""
        state = self.state
        trainer = _trainer_of(state)
        if state.get("status") != "training" or trainer is None:
            return
        if (held and heartbeat.is_here(trainer)) or not heartbeat.is_alive(
            trainer, self._heartbeat
        ):
            return
        # It may have been killed since it gave the last sign of life; a further one would tell.
        whose = f"process {trainer.get('pid')} on {trainer.get('host')}"
        watched_s = 3 * heartbeat.BEAT_S
        console_progress().say(
            f"{self.path} was being trained by {whose} a moment ago; "
            f"looking for {watched_s:.0f} s whether it still is"
        )
        before, end = heartbeat.last_beat(self._heartbeat), time.monotonic() + watched_s
        while time.monotonic() < end:
            time.sleep(min(1.0, heartbeat.BEAT_S))
            if heartbeat.last_beat(self._heartbeat) != before:
                raise LockTakenError(
                    f"{self.path} is being trained by {whose}; wait for it or stop it"
                )

    @property
    def _lock(self) -> Path:
        """Held by whoever trains."""
        return self.path / ".lock"

    @property
    def _heartbeat(self) -> Path:
        """When whoever trains gave the last sign of life."""
        # Not in run.json: where there are no locks, a thread that rewrites that every few seconds
        # would undo what commands add to it.
        return self.path / ".heartbeat"

    def weights_sha256(self, which: str) -> str:
        """Return the SHA-256 of the weights in the saved model "best" or "last".

        Of the weights only: the file around them holds the date on which it was saved.

        Raises:
            RunError: If that model was not saved or is damaged.
        """
        path = self.weights(which)
        if not path.is_file():
            raise RunError(
                f"there is no saved model {path}; go on with the run: "
                f"{command_line('train', '--resume', self.path)}"
            )
        try:
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
            raise RunError(f"the saved model {path} is damaged") from None

    # What happened.

    @property
    def state(self) -> dict[str, Any]:
        """The content of `run.json`: "status", "created", "test_openings" and more.

        Of a run that failed, "failure" says why: {"kind": "TrainingError", "reason": ...}.
        """
        return _read_mapping(self.state_file)

    @property
    def status(self) -> str:
        """What the run is doing or how it ended, in a word.

        "created", "training", "trained" (not judged yet), "finished", "interrupted" (Ctrl-C),
        "failed", or "killed": it says that it is training, but no process is doing so. Of a
        process on another host it is known by its signs of life: it counts as killed when it has
        given none for five minutes.
        """
        state = self.state
        status = str(state.get("status", "created"))
        if status != "training":
            return status
        trainer = _trainer_of(state)
        # A lock that is free says little of another host: many file systems keep locks to one.
        trusted = trainer is None or heartbeat.is_here(trainer)
        try:
            with exclusive(self._lock, wait=False) as held:
                if held and trusted:
                    return "killed"
        except LockTakenError:
            return status
        except StorageError:
            pass  # somebody else's folder
        alive = trainer is None or heartbeat.is_alive(trainer, self._heartbeat)
        return status if alive else "killed"

    def record(self, **changes: Any) -> None:
        """Change or add entries of `run.json`; None takes one away."""
        self._change(lambda state: state.update(changes))

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change `run.json` so that no entry of another command is lost that does so as well."""
        with exclusive(self.path / ".state.lock", wait=True):
            now = _now()
            state = self.state if self.state_file.exists() else {"format": FORMAT, "created": now}
            change(state)
            state["updated"] = now
            known = {key: value for key, value in state.items() if value is not None}
            self.write_json(self.state_file, known)

    @contextmanager
    def recording_status(self) -> Iterator[None]:
        """Record that training goes on, and how it ended.

        A process that is killed leaves "training" behind; `status` tells that from a run that is
        being trained now.

        Raises:
            KeyboardInterrupt: If it was interrupted, even where a library's cleaning up after that
                failed with an error of its own.
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
        self.record(status="trained")

    @property
    def test_openings(self) -> list[dict[str, Any]]:
        """Every time that a model of this run was judged on the test images, the oldest first."""
        found = self.state.get("test_openings", [])
        return [opening for opening in found if not opening.get("shown")]

    def record_test_opening(self, *, by: str, weights: str, n_images: int, **more: Any) -> None:
        """Log that the test set is about to be looked at.

        Args:
            by: The command that looks.
            weights: Whose answers are judged: "best" or "last".
            n_images: How many test images there are.
            more: "shown", if a person looks and no model is judged; "images" and "times", the name
                of the set of images in this machine's ledger and the looks at it so far.
        """
        opening = {"at": _now(), "by": by, "weights": weights, "n_images": n_images, **more}

        def add(state: dict[str, Any]) -> None:
            state["test_openings"] = [*state.get("test_openings", []), opening]

        self._change(add)

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`: {"val": {"accuracy": ...}, "test": {...}}.

        Raises:
            RunError: If the run has not been evaluated.
        """
        if not self.metrics_file.exists():
            raise RunError(
                f"{self.path} has no metrics yet; run: {command_line('evaluate', self.path)}"
            )
        return _read_mapping(self.metrics_file)

    @property
    def environment(self) -> dict[str, Any]:
        """The content of `environment.json`: versions and machine that the run was trained with.

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
        """Write a JSON file atomically."""
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _trainer_of(state: dict[str, Any]) -> dict[str, Any] | None:
    """Return who trains or trained last; None of runs of older versions, which do not say."""
    trainer = state.get("trainer")
    return trainer if isinstance(trainer, dict) else None


def _is_remains(path: Path) -> bool:
    """Tell whether a file is all that is left of a run that was killed before it was one."""
    names = ("config.yaml", ".lock", ".state.lock", ".heartbeat")
    return path.name in names or path.match(".*.part*")


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


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
