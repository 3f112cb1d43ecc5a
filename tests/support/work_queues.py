"""Shared test code: work queues."""

from keyturn.controller.work_queue import WorkQueue
from tests.support.dependencies import HOUR, NOW, SECOND


def work_queue(*uids: str, workers: int = 4) -> WorkQueue:
    """An agenda on which requests of one namespace are due now, in that order."""
    made = WorkQueue(workers)
    for number, uid in enumerate(uids):
        made.add(uid, NOW, NOW + HOUR + number * SECOND, "billing")
    return made
