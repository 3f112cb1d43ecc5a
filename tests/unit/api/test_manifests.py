from typing import Any

import pytest

from keyturn.api.base import InvalidSpecError
from keyturn.api.token_request import parse
from tests.support.manifests import MANIFESTS, NAMES

_GOOD = {name: body for name, (body, message) in MANIFESTS.items() if message is None}
_BAD = {name: (body, message) for name, (body, message) in MANIFESTS.items() if message}


def test_manifest_names_are_unique() -> None:
    assert len(NAMES) == len(MANIFESTS)


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in _GOOD.items()])
def test_good_manifest_is_accepted(body: dict[str, Any]) -> None:
    assert parse(body).name == body["metadata"]["name"]


@pytest.mark.parametrize(("body", "message"), [pytest.param(*bad, id=name) for name, bad in _BAD.items()])
def test_bad_manifest_is_rejected_with_a_message(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError) as error:
        parse(body)

    assert message in error.value.message
