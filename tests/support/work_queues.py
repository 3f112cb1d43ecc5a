"""Work queues with due requests."""

from keyturn.controller.work_queue import WorkQueue
from tests.support.dependencies import HOUR, NOW, SECOND


def work_queue(*uids: str, workers: int = 4) -> WorkQueue:
    """Return a queue with requests of one namespace that are due now, in this order."""
    queue = WorkQueue(workers)
    for number, uid in enumerate(uids):
        queue.add(uid, NOW, NOW + HOUR + number * SECOND, "billing")
    return queue
