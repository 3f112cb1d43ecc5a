"""Reader mode: what the kubelet mounts is what is served."""

import asyncio
import logging

from keyturn.sidecar.credential_cache import Held, UnservableError
from keyturn.sidecar.mounted_secret import Mounted, Stamp

_POLL_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Reader:
    """Keeps `held` as the mounted Secret is. What cannot be served, or has expired, replaces nothing."""

    def __init__(self, mounted: Mounted, held: Held) -> None:
        self._mounted = mounted
        self._held = held
        self._seen: Stamp | None = None
        self._read: Stamp | None = None
        self._told = ""

    async def follow(self) -> None:
        """Look for changes, for ever."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            self.look()

    def look(self) -> None:
        """Read what is new: at first at once, then when it stays the same from one look to the next.

        Somebody who writes file after file, unlike the kubelet, may be between two of them.
        """
        stamp = self._mounted.stamp()
        settled = self._seen in (None, stamp)
        self._seen = stamp
        if settled and stamp != self._read:
            self._take(stamp)
        self._tell()

    def _take(self, stamp: Stamp) -> None:
        held = self._held
        try:
            found = self._mounted.read()
        except UnservableError as error:
            # Read again at the next look: not all that may heal changes the stamp.
            self._read, held.trouble = None, str(error)
            return
        self._read = stamp
        if found.expires_at <= held.now():
            held.trouble = f"those in {self._mounted.directory} expired at {found.ends}"
        else:
            held.served, held.trouble = found, ""

    def _tell(self) -> None:
        """Log what is served, or the trouble, when it changes."""
        level = logging.WARNING
        try:
            self._held.document()
        except UnservableError as error:
            text = f"there is nothing to give: {error}"
        else:
            ends = self._held.served.ends if self._held.served else ""
            text = f"giving credentials that expire at {ends}"
            if self._held.trouble:
                text = f"{self._held.trouble}; {text}"
            else:
                level = logging.INFO
        if text != self._told:
            self._told = text
            _log.log(level, "%s", text)
