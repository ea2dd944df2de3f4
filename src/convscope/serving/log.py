"""The log of a server: one line of JSON per event, on standard error."""

import json
import logging
import sys
import time
import traceback
from typing import Any

LOG = logging.getLogger("convscope.serving")


def facts(**values: object) -> dict[str, object]:
    """Return what a line of the log says besides its event, as the argument `extra`."""
    return {"facts": values}


def log_as_json() -> None:
    """Write this package's lines, and the warnings of the HTTP server, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.handlers, uvicorn.propagate = [handler], False
    uvicorn.setLevel(logging.WARNING)
    # A log that nobody reads any more is no reason to stop.
    logging.raiseExceptions = False


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
