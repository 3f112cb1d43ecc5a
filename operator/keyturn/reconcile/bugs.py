"""Reports unexpected exceptions."""

import logging
import traceback
from pathlib import Path

from keyturn.core.errors import UnavailableError
from keyturn.metrics import Metrics

_log = logging.getLogger(__name__)


def report_bug(metrics: Metrics, request: str, bug: Exception) -> UnavailableError:
    """Log and count an unexpected exception, and return it as a failure with the reason InternalError.

    `request` is its namespace and name.
    """
    message = f"internal error: {describe_bug(bug)}"
    _log.error("%s: %s", request, message)
    metrics.internal_errors.labels("reconcile").inc()
    return UnavailableError("InternalError", f"{message}; this is a bug in Keyturn")


def describe_bug(bug: Exception) -> str:
    """Return the type of an exception and where it was raised. Its message is left out: it may contain a secret."""
    frames = traceback.extract_tb(bug.__traceback__)[-4:]
    places = " < ".join(f"{frame.name} {Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(bug).__name__} in {places}" if places else type(bug).__name__
