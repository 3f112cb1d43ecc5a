import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.sidecar.credential_cache import Held, UnservableError, served

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROCESS = {
    "Version": 1,
    "AccessKeyId": "ASIAEXAMPLE",
    "SecretAccessKey": "planted-secret",
    "SessionToken": "planted-token",
    "Expiration": "2026-01-01T02:00:00+01:00",
}
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "planted-secret",
    "AWS_SESSION_TOKEN": "planted-token",
    "expiration": "2026-01-01T01:00:00Z",
}


@pytest.mark.parametrize(
    ("data", "key"),
    [
        pytest.param({"credentials.json": json.dumps(PROCESS)}, "credentials.json", id="a credential process"),
        pytest.param({"mine": json.dumps(PROCESS)}, "mine", id="under another key"),
        pytest.param(VARIABLES, "credentials.json", id="variables"),
    ],
)
def test_both_forms_become_the_endpoints_answer(data: Mapping[str, str], key: str) -> None:
    found = served(data, key)

    assert (found.access_key_id, found.expires_at) == ("ASIAEXAMPLE", NOW + timedelta(hours=1))
    assert json.loads(found.document) == {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "planted-secret",
        "Token": "planted-token",
        "Expiration": "2026-01-01T01:00:00Z",
    }


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param({}, "no AccessKeyId", id="nothing at all"),
        pytest.param({"credentials.json": '{"Version": 1, "Acc'}, "is not JSON", id="half-written"),
        pytest.param({"credentials.json": "[" * 100_000}, "is not JSON", id="without an end"),
        pytest.param({"credentials.json": "[]"}, "not a JSON object", id="a list"),
        pytest.param(
            {"credentials.json": json.dumps(PROCESS | {"AccessKeyId": 7})}, "no AccessKeyId", id="a number as key"
        ),
        pytest.param(VARIABLES | {"AWS_SESSION_TOKEN": ""}, "no Token", id="long-lived keys"),
        pytest.param(VARIABLES | {"expiration": ""}, "no Expiration", id="no end"),
        pytest.param(VARIABLES | {"expiration": "soon"}, "RFC 3339", id="an end that is no time"),
        pytest.param(VARIABLES | {"expiration": "9999-12-31T23:59:59-01:00"}, "RFC 3339", id="after all time"),
        pytest.param(VARIABLES | {"expiration": "2026-01-01T01:00:00"}, "time zone", id="an end without a zone"),
    ],
)
def test_what_cannot_be_served(data: Mapping[str, str], says: str) -> None:
    with pytest.raises(UnservableError, match=says) as refused:
        served(data)

    assert "planted" not in str(refused.value)


def test_a_refusal_always_has_a_reason() -> None:
    with pytest.raises(UnservableError, match="no credentials came yet"):
        Held(lambda: NOW, trouble="").document()


def test_what_is_held_is_served_until_it_expires_whatever_the_trouble() -> None:
    clock = [NOW]
    held = Held(lambda: clock[0])
    with pytest.raises(UnservableError, match="no credentials were read yet"):
        held.document()
    held.served, held.trouble = served(VARIABLES), "the folder is empty"

    clock[0] += timedelta(minutes=59)
    assert json.loads(held.document())["AccessKeyId"] == "ASIAEXAMPLE"
    clock[0] += timedelta(minutes=1)
    with pytest.raises(UnservableError, match="expired at 2026-01-01T01:00:00Z; the folder is empty"):
        held.document()
