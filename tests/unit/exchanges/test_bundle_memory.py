import asyncio
import ssl

import pytest

from keyturn.core.errors import ThrottledError
from keyturn.exchanges.bundle_memory import BundleMemory
from tests.support.virtual_time import in_virtual_time

HALF, MOST = 2**18, 2**19


def memory() -> BundleMemory:
    return BundleMemory(asyncio.get_running_loop().time)


async def load(bundles: BundleMemory, length: int, namespace: str = "billing") -> ssl.SSLContext:
    async with bundles.reserve(namespace, length) as hold:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        hold(context)
    return context


@in_virtual_time
async def test_bundles_in_use_are_limited_in_each_namespace() -> None:
    bundles = memory()
    contexts = [await load(bundles, HALF), await load(bundles, HALF), await load(bundles, MOST, "web")]

    with pytest.raises(ThrottledError) as raised:
        await load(bundles, 1)

    assert (len(contexts), raised.value.nothing_sent) == (3, True)
    assert 15 < asyncio.get_running_loop().time() < 16


@in_virtual_time
async def test_single_bundle_is_always_allowed() -> None:
    assert await load(memory(), 2 * MOST)


@in_virtual_time
async def test_memory_is_released_with_the_context() -> None:
    bundles = memory()
    context = await load(bundles, MOST)
    waiting = asyncio.create_task(load(bundles, MOST))
    await asyncio.sleep(5)
    assert not waiting.done()
    del context
    await asyncio.sleep(1)

    assert waiting.done()


@in_virtual_time
async def test_memory_is_released_after_an_error() -> None:
    bundles = memory()
    with pytest.raises(ssl.SSLError):
        async with bundles.reserve("billing", MOST):
            raise ssl.SSLError

    assert await load(bundles, MOST)


@in_virtual_time
async def test_bundle_that_is_being_loaded_counts() -> None:
    bundles = memory()
    async with bundles.reserve("billing", MOST) as hold:
        with pytest.raises(ThrottledError):
            await load(bundles, MOST)
        hold(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@in_virtual_time
async def test_context_that_is_not_collected_counts_for_a_minute() -> None:
    bundles = memory()
    context = await load(bundles, MOST)
    await asyncio.sleep(40)
    with pytest.raises(ThrottledError):
        await load(bundles, MOST)

    assert await load(bundles, MOST) is not context
    assert 60 <= asyncio.get_running_loop().time() < 61
