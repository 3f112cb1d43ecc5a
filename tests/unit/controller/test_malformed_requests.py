"""TokenRequests with metadata of wrong types, which only a broken API server returns."""

import pytest

from keyturn.api.token_request import RENEW_REQUESTED, InvalidRequest
from tests.support.controller import Operator, issued
from tests.support.dependencies import manifest

MALFORMED = {
    "creationTimestamp": "2026-01-02T03:04:05",
    "generation": "two",
    "annotations": [],
    "name": "not/a/name",
}


@pytest.mark.parametrize(("field", "value"), MALFORMED.items(), ids=MALFORMED)
async def test_malformed_metadata_is_an_invalid_spec(field: str, value: object) -> None:
    operator, body = Operator(), manifest()
    body["metadata"][field] = value
    for _ in range(2):
        await operator.controller.on_request(body, alive=True)
    (entry,) = operator.controller.index.entries.values()

    assert isinstance(entry.request, InvalidRequest)


@pytest.mark.parametrize("metadata", [None, "acme", [], {}, {"namespace": "billing", "name": "acme", "uid": ["x"]}])
async def test_object_without_identity_is_ignored(metadata: object) -> None:
    operator = Operator()
    await operator.controller.on_request(manifest() | {"metadata": metadata}, alive=True)

    assert operator.controller.index.entries == {}


async def test_annotations_that_become_malformed_change_nothing() -> None:
    operator, body = await issued(), manifest()
    body["metadata"]["annotations"] = {RENEW_REQUESTED: 7}
    await operator.controller.on_request(body, alive=True)

    assert await operator.reconcile_due() == 0
