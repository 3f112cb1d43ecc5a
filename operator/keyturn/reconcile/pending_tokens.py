"""The tokens that are being replaced, which a signal must not interrupt."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


class PendingTokens:
    """The token Secrets whose token is being exchanged, or whose new token is not saved yet."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since: dict[str, float] = {}

    @contextmanager
    def track(self, name: str) -> Iterator[None]:
        """Record the token Secret with this name as pending. TokenLocks excludes a second use of the same one."""
        self._since[name] = self._monotonic()
        try:
            yield
        finally:
            del self._since[name]

    def log(self) -> None:
        """Log which tokens keep a process from stopping."""
        for name, since in self._since.items():
            _log.warning(
                "still replacing the token of Secret %s, for %d s; the process stops once the new token is saved"
                " (SIGKILL, that is kill -9, would lose it)",
                name,
                self._monotonic() - since,
            )
