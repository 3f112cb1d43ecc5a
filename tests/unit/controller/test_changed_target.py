"""The target of a TokenRequest is changed during an exchange: no Secret that its spec names now is deleted."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.controller import ChangesFirst, Operator, issued
from tests.support.dependencies import MINUTE, NOW, SECOND, manifest
from tests.support.secret_store import SECRETS, TARGET

RENAMED: dict[str, Any] = {"secretName": "other"}


async def renamed(then: Callable[[Operator], Awaitable[None]]) -> Operator:
    """An operator that has written the Secret of a new secretName; `then` changes the spec during the exchange."""
    operator = await issued()
    operator.outside.aws = ChangesFirst(lambda: then(operator))
    await operator.deliver(target=RENAMED)
    await operator.reconcile_due(NOW + MINUTE)
    assert f"{SECRETS}/other" in operator.server.objects
    return operator


async def change(operator: Operator, generation: int = 3, **spec: Any) -> None:
    """Deliver a second change of the spec."""
    body = manifest(**spec)
    body["metadata"]["generation"] = generation
    await operator.controller.on_request(body, alive=True)


async def revert(operator: Operator) -> None:
    await change(operator)


async def retain(operator: Operator) -> None:
    await change(operator, target=RENAMED | {"deletionPolicy": "Retain"})


async def rename_again(operator: Operator) -> None:
    await change(operator, target={"secretName": "third"})


async def invalidate(operator: Operator) -> None:
    await change(operator, region="-")


async def test_secret_that_the_spec_names_again_is_kept() -> None:
    operator = await issued()
    uid = operator.server.meta(TARGET).uid
    operator = await renamed(revert)
    calls = len(operator.aws.calls)
    await operator.reconcile_due(NOW + MINUTE + SECOND)

    assert operator.server.meta(TARGET).uid == uid
    assert len(operator.aws.calls) == calls


async def test_former_secret_is_retained_if_the_policy_has_changed() -> None:
    operator = await renamed(retain)

    assert operator.server.data(TARGET)
    assert operator.server.meta(TARGET).owner_references == ()


@pytest.mark.parametrize("change", [rename_again, invalidate])
async def test_former_secret_is_kept_until_that_of_the_spec_is_written(
    change: Callable[[Operator], Awaitable[None]],
) -> None:
    operator = await renamed(change)

    assert TARGET in operator.server.objects


@pytest.mark.parametrize("watched", [True, False])
async def test_former_secret_is_deleted_after_the_new_one_is_written(*, watched: bool) -> None:
    operator = await issued(watched=watched)
    await operator.deliver(target=RENAMED)
    assert TARGET in operator.server.objects
    await operator.reconcile_due(NOW + MINUTE)

    assert [path for path in operator.server.objects if path.startswith(SECRETS)] == [
        f"{SECRETS}/license",
        f"{SECRETS}/other",
    ]


async def test_next_write_releases_all_former_secrets() -> None:
    operator = await renamed(rename_again)
    await operator.reconcile_due(NOW + 2 * MINUTE)

    assert [path for path in operator.server.objects if path.startswith(SECRETS)] == [
        f"{SECRETS}/license",
        f"{SECRETS}/third",
    ]
