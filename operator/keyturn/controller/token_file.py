"""The token of the operator's ServiceAccount, which the kubelet replaces."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from kubernetes.aio.client import Configuration

_READ_AGAIN_SECONDS = 60
_log = logging.getLogger(__name__)


class TokenFile:
    """Reads the token again each minute. If the file has no usable token, the last one is used again.

    The Kubernetes client measures the minute with the clock of the node: after that was set back by hours, it would use
    the same token for hours, although the token expires. It would also send no requests at all without a usable file,
    although the last token may still be valid.
    """

    def __init__(self, path: str, token: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._token = token
        self._monotonic = monotonic
        self._read_at = float("-inf")

    def refresh(self, configuration: Configuration) -> None:
        """Set the current token. The client calls this before each request."""
        if self._monotonic() - self._read_at >= _READ_AGAIN_SECONDS:
            self._read_at = self._monotonic()
            self._read()
        configuration.api_key["BearerToken"] = self._token

    def _read(self) -> None:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError):
            token = ""
        # Any other character would make the header invalid, and every request fail.
        if token and token.isprintable():
            self._token = f"Bearer {token}"
        else:
            _log.warning("the token of the service account could not be read; the last one is used again")
