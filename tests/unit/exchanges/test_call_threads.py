import asyncio
import gc
import threading
import weakref

import pytest

from keyturn.exchanges.call_threads import CallThreads


class Response:
    """What a call returns. It may contain credentials."""


async def is_deleted(response: weakref.ref[Response]) -> bool:
    """Whether nothing keeps the response. A thread keeps it for a moment after its caller has received it."""
    for _ in range(100):
        gc.collect()
        if response() is None:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_result_is_not_kept() -> None:
    threads = CallThreads(1, "test")
    response = weakref.ref(await threads.run("sts", Response, 5))

    assert await is_deleted(response)


async def test_result_of_an_overdue_call_is_not_kept() -> None:
    threads, may_end = CallThreads(1, "test"), threading.Event()
    responses: list[weakref.ref[Response]] = []

    def respond_late() -> Response:
        may_end.wait(5)
        response = Response()
        responses.append(weakref.ref(response))
        return response

    with pytest.raises(TimeoutError):
        await threads.run("sts", respond_late, 0.01)
    may_end.set()
    while not responses:  # noqa: ASYNC110 - there is no event for the end of a thread
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    threads.is_overdue("sts")

    assert await is_deleted(responses[0])
