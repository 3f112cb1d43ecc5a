from typing import Any

import pytest

from keyturn.api.token_request import parse
from keyturn.core.errors import RefusedError
from tests.support.manifests import MANIFESTS, NAMES

_GOOD = {name: body for name, (body, says) in MANIFESTS.items() if says is None}
_BAD = {name: (body, says) for name, (body, says) in MANIFESTS.items() if says}


def test_no_two_manifests_have_one_name() -> None:
    assert len(NAMES) == len(MANIFESTS)


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in _GOOD.items()])
def test_a_good_manifest_is_taken(body: dict[str, Any]) -> None:
    assert parse(body).name == body["metadata"]["name"]


@pytest.mark.parametrize(("body", "says"), [pytest.param(*bad, id=name) for name, bad in _BAD.items()])
def test_a_bad_manifest_is_refused_with_a_sentence(body: dict[str, Any], says: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse(body)

    assert says in refused.value.message
    assert refused.value.reason == "InvalidSpec"
