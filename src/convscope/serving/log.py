"""The log of a server: one line of JSON per event, on standard error."""

import contextlib
import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

LOG = logging.getLogger("convscope.serving")


def facts(**values: object) -> dict[str, object]:
    """Return what a line of the log says besides its event, as the argument `extra`."""
    return {"facts": values}


@contextlib.contextmanager
def log_as_json() -> Iterator[None]:
    """Write this package's lines, and the warnings of the HTTP server, as JSON in the body."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    levels = {LOG: logging.INFO, logging.getLogger("uvicorn"): logging.WARNING}
    before = [(each, each.handlers, each.propagate, each.level) for each in levels]
    raised = logging.raiseExceptions
    for logger, level in levels.items():
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    # A log that nobody reads any more is no reason to stop.
    logging.raiseExceptions = False
    try:
        yield
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        logging.raiseExceptions = raised


class _Json(logging.Formatter):
    """A line of JSON, whatever characters a client sent."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line)
