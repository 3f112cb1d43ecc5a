"""Lists objects in pages of limited size: at most MAX_BYTES of a response are in memory."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

from keyturn.controller.api_client import ApiClient
from keyturn.controller.response_body import LIST, Page, UnreadableBodyError, object_name, read_head
from keyturn.core.errors import UnavailableError

_LARGEST_PAGE = 500
_HEAD_BYTES = 2**16
_log = logging.getLogger(__name__)


class PageSize:
    """The number of objects to request at once: fewer after a page that was too large, then more again."""

    def __init__(self) -> None:
        self.value = _LARGEST_PAGE

    def shrink(self) -> None:
        """Request fewer objects."""
        self.value = max(1, self.value // 5)

    def grow(self) -> None:
        """Request more objects."""
        self.value = min(_LARGEST_PAGE, self.value + 1 + self.value // 5)


async def list_pages(
    api: ApiClient, path: str, selector: str, size: PageSize, *, fields: str = "", accept: str = LIST
) -> AsyncIterator[Page]:
    """List objects, by default their metadata, page by page, without those that are too large or nested too deeply.

    The list is consistent: without a resourceVersion, the API server returns what etcd contains.
    """
    remaining = ""
    while True:
        query = {"labelSelector": selector, "limit": str(size.value)}
        query |= ({"fieldSelector": fields} if fields else {}) | ({"continue": remaining} if remaining else {})
        async with AsyncExitStack() as until_handled:
            try:
                page = await api.list_page(path, query, accept=accept, until_handled=until_handled)
            except UnreadableBodyError as error:
                if size.value > 1:
                    size.shrink()
                    continue
                page = _without_object(path, *read_head(error.head, path, accept), str(error))
            else:
                size.grow()
            if page is None:
                raise UnavailableError("Unavailable", f"listing {path}: the list expired before its last page")
            yield page
            remaining = page.remaining
            del page
        if not remaining:
            return


async def read_empty_page(api: ApiClient, path: str, remaining: str, why: str) -> Page:
    """Return the page of a single object that cannot be read, without the object."""
    query = {"limit": "1"} | ({"continue": remaining} if remaining else {})
    return _without_object(path, *await _read_head(api, path, query), why)


async def was_restored(api: ApiClient, path: str, version: int) -> bool:
    """Whether etcd was restored from a backup, so that the current resourceVersion of a list is before `version`.

    The API server sends no changes after a version that it does not know.
    """
    # A consistent read of at most one object.
    page, _ = await _read_head(api, path, {"limit": "1"})
    if int(page.version) >= version:
        return False
    _log.warning("the resourceVersion of %s decreased; listing all objects again", path)
    return True


async def _read_head(api: ApiClient, path: str, query: dict[str, str]) -> tuple[Page, bytes]:
    try:
        page = await api.list_page(path, query, _HEAD_BYTES)
    except UnreadableBodyError as error:
        return read_head(error.head, path)
    if page is None:
        raise UnavailableError("Unavailable", f"listing {path}: the list expired")
    return page, b"".join(map(bytes, page.items))


def _without_object(path: str, page: Page, items: bytes, why: str) -> Page:
    _log.warning("%s of %s is ignored: %s", object_name(items), path, why)
    return replace(page, items=())
