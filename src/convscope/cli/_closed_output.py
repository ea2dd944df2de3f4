"""Standard output and error whose reader may leave early, as `head` and `less` do."""

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def let_readers_leave() -> None:
    """Discard output once its reader has closed the pipe; the command itself goes on.

    So `convscope data check --data photos | head -1` has the exit code that it has without `head`,
    and a training whose log nobody reads any longer ends as it should.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        if not isinstance(stream, io.TextIOWrapper) or not isinstance(
            getattr(buffer, "raw", buffer), io.FileIO
        ):
            continue  # Closed from the start, or not a file.
        stream.flush()
        raw = _Patient(stream.fileno(), "w", closefd=False)
        patient = io.TextIOWrapper(
            raw if buffer is getattr(buffer, "raw", buffer) else io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, patient)


class _Patient(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # Later writes, also those of libraries and child processes, go nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes
