"""The content of a response that a middleware has read or changed."""

from collections.abc import AsyncIterator

import aiohttp
from aiohttp.streams import AsyncStreamIterator, EmptyStreamReader

_NO_CAUSE = Exception()


class Body(EmptyStreamReader):
    """The content of a response that was already read."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body

    async def read(self, _n: int = -1) -> bytes:
        return self._body


class Lines(EmptyStreamReader):
    """The content of a watch response."""

    def __init__(self, lines: AsyncIterator[bytes], content: aiohttp.StreamReader) -> None:
        super().__init__()
        self._lines = lines
        self._content = content

    def iter_chunked(self, _n: int) -> AsyncStreamIterator[bytes]:
        return AsyncStreamIterator(lambda: anext(self._lines, b""))

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _NO_CAUSE) -> None:
        # Ends the read that waits for the next line when kopf closes the response.
        self._content.set_exception(exc, exc_cause)
