"""Predictions of many images as a file that grows, and goes on after a kill."""

import contextlib
import csv
import importlib.util
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from convscope.errors import ConfigError, LockTakenError, MissingExtraError
from convscope.locks import exclusive
from convscope.storage import atomic_path, read_object, storage_errors, write_text
from convscope.types import ImagePrediction, PackedImage, UnreadableImage
from convscope.wording import in_utf8, printable, spreadsheet_path, spreadsheet_text

Result = ImagePrediction | UnreadableImage

KINDS = (".csv", ".jsonl", ".parquet")
"""Endings of files of predictions."""

_ROWS = 1024
"""Rows between two records of what has been done, at most."""

_ROWS_OF_GROUP = 2**15
"""Rows of a row group of a Parquet file, at most: its readers like large ones."""

_PROBS = 2**20
"""Probabilities that wait for a record, about: 50 MB of them."""

_PROBS_OF_GROUP = 2**24
"""Probabilities of a row group, about: 64 MB of them."""


def csv_header(class_names: Iterable[str], *, multi_label: bool = False) -> list[str]:
    """Return the names of the columns of a table of predictions.

    Args:
        class_names: Names in the order of the probabilities.
        multi_label: Whether an image may have any number of classes.

    Returns:
        "image", "class" or "classes", and the classes; one that is called like these or "error",
        the column that a file has at its end, has "probs." before its name, and so has one that
        begins so.
    """
    others = ["image", "classes" if multi_label else "class"]
    taken = {*others, "error"}
    named = (
        f"probs.{name}" if name in taken or name.startswith("probs.") else spreadsheet_text(name)
        for name in class_names
    )
    return [*others, *named]


def csv_row(result: ImagePrediction) -> list[str | float]:
    """Return a row of a table of predictions: image, answer, probability of each class.

    Several classes are in one cell with "|" between them, as a table of labels may have them.
    """
    answer = result.answer
    if result.thresholds is not None and not result.rejected:
        answer = in_one_cell(result.class_names)
    answer = spreadsheet_text(answer)
    return [spreadsheet_path(str(result.path)), answer, *result.probs.values()]


def in_one_cell(names: Sequence[str]) -> str:
    """Return several names as one text, which a table of labels reads as several again."""
    if any("|" in name or name.startswith("[") for name in names):
        return json.dumps(list(names), ensure_ascii=False)
    return "|".join(names)


def json_line(result: Result) -> str:
    """Return a prediction, or the reason why there is none, as a line of JSON."""
    if isinstance(result, UnreadableImage):
        return json.dumps({"image": str(result.path), "error": result.reason})
    return json.dumps(json_object(result))


def json_object(result: ImagePrediction) -> dict[str, Any]:
    """Return a prediction as an object of JSON; the class of a rejected image is null.

    Where an image may have any number of classes it is a list, "classes", the most probable first,
    and "rejected" says whether the image looks like none.
    """
    if result.thresholds is not None:
        several = {"classes": list(result.class_names), "rejected": result.rejected}
        return {"image": str(result.path), **several, "probs": result.probs}
    # Not the answer in words, which may be the name of a class.
    answer = None if result.rejected else result.class_name
    return {"image": str(result.path), "class": answer, "probs": result.probs}


class Answers(Iterator[Result]):
    """Results that are written to a file as they are taken.

    Args:
        results: Results from `AnswersFile.write`.
        n_unreadable_before: Number of images without an answer that an earlier process did.
    """

    def __init__(self, results: Iterator[Result], n_unreadable_before: int) -> None:
        self._results = results
        self.n_unreadable_before = n_unreadable_before

    def __next__(self) -> Result:
        """Return the next result, which is written then, or will be with those after it."""
        return next(self._results)


class AnswersFile:
    """A file of predictions, a row per image, in the order of the images.

    It is written as "<name>.part", with what has been done in "<name>.part.json", and takes its
    place when all images are done. After a kill, the same command goes on where it was: rows that
    were not recorded as done are cut off and made again, so that no image has two rows or none.
    A Parquet file cannot grow, so it grows as a stream of Arrow, and is made of that at the end.
    What another command did is never thrown away; where nothing was done, nothing is left.

    Args:
        path: File to write, or a link to it; its ending decides the format.
        class_names: Names in the order of the probabilities.
        job: Everything by which two jobs differ, such as the checksum of the model and the images.
        multi_label: Whether an image may have any number of classes.

    Attributes:
        n_done: Number of images that an earlier process did.
        n_unreadable: Number of images without an answer so far, those of an earlier process
            included.

    Raises:
        ConfigError: If the ending is not one of `KINDS`, the path is a folder, or beside it lies
            what another command did.
        MissingExtraError: If it is a Parquet file and pyarrow is not installed.

    References:
        Apache Arrow, "IPC Streaming Format".
    """

    def __init__(
        self,
        path: Path,
        class_names: Iterable[str],
        job: Mapping[str, Any],
        *,
        multi_label: bool = False,
    ) -> None:
        self._kind = path.suffix.lower()
        if self._kind not in KINDS:
            raise ConfigError(f"--out {path} must end in {' or '.join(KINDS)}")
        if self._kind == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            raise MissingExtraError("pyarrow", None)
        # A link stays: it leads to the disk with room for the file.
        path = Path(os.path.realpath(path))
        if path.is_dir():
            raise ConfigError(f"--out {path} is a folder; name a file in it")
        self.path = path
        self._class_names = list(class_names)
        self._multi_label = multi_label
        self._part = path.with_name(f"{path.name}.part")
        self._state = path.with_name(f"{path.name}.part.json")
        self._job = dict(job)
        self.n_done: int
        self.n_unreadable: int
        self._take_up()

    def left(self, images: Iterable[Path | PackedImage]) -> Iterator[Path | PackedImage]:
        """Yield the images that are still to be done.

        Args:
            images: All images of the job, in their order.

        Raises:
            ConfigError: If they are not those that an earlier process began with.
        """
        waiting = iter(images)
        n_before = self.n_done
        last = next(itertools.islice(waiting, n_before - 1, None), "") if n_before else ""
        if n_before and str(last.path if isinstance(last, PackedImage) else last) != self._last:
            raise ConfigError(
                f"the images are not those with which {self._part} was begun: number {n_before:,} "
                f"was {printable(self._last)}; remove that file to begin again"
            )
        return waiting

    def write(self, results: Iterator[Result], *, batch: int | None = None) -> Iterator[Result]:
        """Write results as they come, and yield each after it.

        Args:
            results: Results of the images after the first `n_done`.
            batch: Number of images between two records of what has been done; None takes up to
                1,024, fewer of very many classes, since they wait in memory.

        Raises:
            LockTakenError: If another process writes it, or did since the images were counted.
            StorageError: If the file cannot be written.
        """
        batch = batch or self._rows_in(_PROBS, _ROWS)
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            busy = f"{self.path} is being written by another process"
            with (
                exclusive(self._part, wait=False, busy=busy) as held,
                self._part.open("r+b") as file,
            ):
                counted = self.n_done, self._n_bytes
                self._take_up()
                if (self.n_done, self._n_bytes) != counted:
                    with contextlib.suppress(OSError):
                        if not self._part.stat().st_size:  # made by the lock
                            self._part.unlink()
                    raise LockTakenError(
                        f"{self.path} was written by another process meanwhile; repeat the command"
                    )
                file.truncate(self._n_bytes)
                file.seek(self._n_bytes)
                if not self._is_noted:
                    # Before the first byte, so that a file without it is known to be none of ours.
                    self._note(0)
                if not self.n_done:
                    file.write(self._head())
                rows: list[Result] = []
                try:
                    for result in results:
                        rows.append(result)
                        if (self.n_done + len(rows)) % batch == 0:
                            self._record(file, rows)
                        yield result
                    self._record(file, rows)
                except KeyboardInterrupt:
                    # Half recorded, they are done again.
                    if not self._is_recording:
                        self._record(file, rows)
                    raise
                except Exception:
                    if held and not self.n_done:
                        # There is nothing to go on after, such as where no list is at that path.
                        with contextlib.suppress(OSError):
                            self._part.unlink(missing_ok=True)
                            self._state.unlink(missing_ok=True)
                    raise
                if self._kind == ".parquet":
                    self._make_parquet()
            if self._kind == ".parquet":
                self._part.unlink()
            else:
                os.replace(self._part, self.path)
            self._state.unlink(missing_ok=True)

    def _rows_in(self, n_probs: int, most: int) -> int:
        """Return how many rows hold so many probabilities."""
        return max(1, min(most, n_probs // max(1, len(self._class_names))))

    def _head(self) -> bytes:
        """Return what comes before the first row."""
        if self._kind == ".parquet":
            return self._schema().serialize().to_pybytes()  # type: ignore[no-any-return]
        if self._kind == ".csv":
            columns = csv_header(self._class_names, multi_label=self._multi_label)
            return self._csv_text([[*columns, "error"]])
        return b""

    def _bytes_of(self, results: list[Result]) -> bytes:
        if self._kind == ".parquet":
            return self._arrow_rows(results)
        if self._kind == ".jsonl":
            return "".join(f"{json_line(result)}\n" for result in results).encode()
        blanks = [""] * (1 + len(self._class_names))
        return self._csv_text(
            [
                spreadsheet_path(str(result.path)),
                *blanks,
                spreadsheet_text(printable(result.reason)),
            ]
            if isinstance(result, UnreadableImage)
            else [*csv_row(result), ""]
            for result in results
        )

    def _csv_text(self, rows: Iterable[list[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator=os.linesep).writerows(rows)
        return text.getvalue().encode("utf-8", "backslashreplace")

    def _record(self, file: BinaryIO, rows: list[Result]) -> None:
        """Write rows, empty their list, and record that they are done."""
        self._is_recording = True
        if rows:
            file.write(self._bytes_of(rows))
            self.n_done += len(rows)
            self.n_unreadable += sum(isinstance(row, UnreadableImage) for row in rows)
            self._last = str(rows[-1].path)
            rows.clear()
        file.flush()
        os.fsync(file.fileno())
        self._note(file.tell())
        self._is_recording = False

    def _note(self, n_bytes: int) -> None:
        """Record what has been done, in so many bytes."""
        content = {
            "job": self._job,
            "n_done": self.n_done,
            "n_bytes": n_bytes,
            "n_unreadable": self.n_unreadable,
            "last": self._last,
        }
        write_text(self._state, json.dumps(content))

    def _take_up(self) -> None:
        """Read what an earlier process of the same job did.

        Raises:
            ConfigError: If it was another job that did some, or not convscope.
        """
        self._last, self._is_noted, self._is_recording = "", False, False
        self.n_done = self._n_bytes = self.n_unreadable = 0
        size = self._part.stat().st_size if self._part.exists() else 0
        remedy = f"remove {self._part} to begin anew, or choose another --out"
        try:
            content = read_object(self._state)
            job = dict(content["job"])
            n_done, n_bytes, n_unreadable = (
                int(content[key]) for key in ("n_done", "n_bytes", "n_unreadable")
            )
            last = str(content["last"])
        except (ValueError, TypeError, KeyError):
            if size:
                raise ConfigError(
                    f"{self._part} would be overwritten, and no command here is known to have "
                    f"begun it; {remedy}"
                ) from None
            return
        other = [key for key, value in self._job.items() if job.get(key) != value]
        if size and n_done and other:
            raise ConfigError(
                f"{self._part} was begun by another command ({', '.join(other)}); {remedy}"
            )
        self._is_noted = job == self._job
        if n_done > 0 and 0 < n_bytes <= size:
            self.n_done, self._n_bytes = n_done, n_bytes
            self.n_unreadable, self._last = n_unreadable, last

    def _schema(self) -> Any:
        import pyarrow as pa

        probs = pa.struct([(name, pa.float32()) for name in self._class_names])
        texts = [(name, pa.string()) for name in ("image", "class", "error")]
        if self._multi_label:
            texts[1] = ("classes", pa.list_(pa.string()))
            texts.append(("rejected", pa.bool_()))
        return pa.schema([*texts, ("probs", probs)])

    def _arrow_rows(self, results: list[Result]) -> bytes:
        import pyarrow as pa

        rows = [
            {"error": in_utf8(result.reason)}
            if isinstance(result, UnreadableImage)
            else json_object(result)
            for result in results
        ]
        for row, result in zip(rows, results, strict=True):
            row["image"] = in_utf8(str(result.path))
        batch = pa.RecordBatch.from_pylist(rows, self._schema())
        return batch.serialize().to_pybytes()  # type: ignore[no-any-return]

    def _make_parquet(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        n_rows = self._rows_in(_PROBS_OF_GROUP, _ROWS_OF_GROUP)
        with (
            pa.OSFile(str(self._part)) as file,
            pa.ipc.open_stream(file) as stream,
            atomic_path(self.path) as temporary,
            pq.ParquetWriter(temporary, stream.schema) as writer,
        ):
            waiting: list[Any] = []
            for batch in stream:
                waiting.append(batch)
                if sum(map(len, waiting)) >= n_rows:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting.clear()
            writer.write_table(pa.Table.from_batches(waiting, stream.schema))
