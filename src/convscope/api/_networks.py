"""Several networks in one process, one after the other."""

import contextlib
import logging
import sys
from collections.abc import Iterator


def forget_networks() -> None:
    """Free the memory of networks before; the next ones are named as in a new process."""
    # Where none was built yet, the backend is not chosen yet.
    if "keras" in sys.modules:
        import keras

        keras.utils.clear_session()


@contextlib.contextmanager
def no_advice_on_tracing() -> Iterator[None]:
    """Keep TensorFlow from warning that many networks are compiled: each run has its own."""
    log = logging.getLogger("tensorflow")

    def keep(record: logging.LogRecord) -> bool:
        return "tf.function retracing" not in record.getMessage()

    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)
