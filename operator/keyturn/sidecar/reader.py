"""Reader mode: publishes the credentials of a mounted Secret."""

import asyncio
import logging

from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError
from keyturn.sidecar.mounted_files import Fingerprint, MountedSecret

_POLL_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Reader:
    """Publishes each new version of the Secret, unless its credentials are invalid or have expired."""

    def __init__(self, secret: MountedSecret, cache: CredentialCache) -> None:
        self._secret = secret
        self._cache = cache
        self._last_poll: Fingerprint | None = None
        self._last_read: Fingerprint | None = None
        self._last_logged = ""

    async def run(self) -> None:
        """Poll the Secret until cancelled."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            self.poll()

    def poll(self) -> None:
        """Read the Secret if it has changed and the last two polls have seen the same files. The first poll reads it.

        Unlike the kubelet, other programs may replace the files one by one.
        """
        fingerprint, cache = self._secret.fingerprint(), self._cache
        is_stable = self._last_poll in (None, fingerprint)
        self._last_poll = fingerprint
        if is_stable and fingerprint != self._last_read:
            try:
                credentials = self._secret.read()
            except NoCredentialsError as error:
                # Retry at the next poll: the cause may disappear without a change of the fingerprint.
                self._last_read, cache.failure = None, str(error)
            else:
                self._last_read, cache.failure = fingerprint, ""
                if credentials.expires_at <= cache.now():
                    # Retry at the next poll: the clock may be wrong.
                    self._last_read = None
                    cache.failure = f"the credentials in {self._secret.directory} expired at {credentials.expiration}"
                else:
                    cache.publish(credentials)
        self._log_change()

    def _log_change(self) -> None:
        """Log the served credentials and the failure if either has changed since the last log line."""
        level = logging.WARNING
        try:
            self._cache.document()
        except NoCredentialsError as error:
            text = f"no credentials to serve: {error}"
        else:
            expiration = self._cache.credentials.expiration if self._cache.credentials else ""
            text = f"serving credentials that expire at {expiration}"
            if self._cache.failure:
                text = f"{self._cache.failure}; {text}"
            else:
                level = logging.INFO
        if text != self._last_logged:
            self._last_logged = text
            _log.log(level, "%s", text)
