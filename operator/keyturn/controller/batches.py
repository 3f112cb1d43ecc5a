"""Visits many TokenRequests in batches. Other work continues between two batches."""

import asyncio
from collections.abc import Callable, Collection, Hashable

_BATCH = 100
_PAUSE_SECONDS = 1.0

Uids = Callable[[], Collection[str]]
Visit = Callable[[str], None]


class Batches:
    """Visits the TokenRequests that a change affects: at once if there are few, otherwise in the background.

    A tenant can keep changing a Secret that thousands of its TokenRequests use, or make the issuer of all of them fail
    and recover. In the background, changes with the same key count as one, and are handled at most once a second.
    """

    def __init__(self, report: Callable[[Exception], object]) -> None:
        self._report = report
        self._waiting: dict[Hashable, tuple[Uids, Visit]] = {}
        self._is_waiting = asyncio.Event()

    def visit(self, key: Hashable, uids: Uids, visit: Visit) -> None:
        """Call `visit` for each uid that `uids` returns. In the background, `uids` is called again at that time."""
        if key in self._waiting:
            return
        current = uids()
        if len(current) > _BATCH:
            self._waiting[key] = (uids, visit)
            self._is_waiting.set()
            return
        for uid in current:
            visit(uid)

    async def run(self) -> None:
        """Handle the changes in the background until cancelled."""
        while True:
            await self._is_waiting.wait()
            self._is_waiting.clear()
            waiting, self._waiting = self._waiting, {}
            for uids, visit in waiting.values():
                for number, uid in enumerate(uids(), 1):
                    try:
                        visit(uid)
                    except Exception as bug:  # noqa: BLE001 - the other TokenRequests are visited nevertheless
                        self._report(bug)
                    if number % _BATCH == 0:
                        await asyncio.sleep(0)
            await asyncio.sleep(_PAUSE_SECONDS)
