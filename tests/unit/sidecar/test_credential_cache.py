import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.sidecar.credential_cache import CredentialCache, NoCredentialsError, parse_credentials

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
        pytest.param({"credentials.json": json.dumps(PROCESS)}, "credentials.json", id="credential process"),
        pytest.param({"custom": json.dumps(PROCESS)}, "custom", id="credential process under another key"),
        pytest.param(VARIABLES, "credentials.json", id="variables"),
    ],
)
def test_every_format_is_converted_to_the_endpoint_document(data: Mapping[str, str], key: str) -> None:
    credentials = parse_credentials(data, key)

    assert (credentials.access_key_id, credentials.expires_at) == ("ASIAEXAMPLE", NOW + timedelta(hours=1))
    assert json.loads(credentials.document) == {
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "planted-secret",
        "Token": "planted-token",
        "Expiration": "2026-01-01T01:00:00Z",
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param({}, "no AccessKeyId", id="no data"),
        pytest.param({"credentials.json": '{"Version": 1, "Acc'}, "json is not valid JSON", id="truncated"),
        pytest.param({"credentials.json": " " * 131_073}, "more than 131072 characters", id="too large a file"),
        pytest.param(
            VARIABLES | {"AWS_SESSION_TOKEN": "t" * 131_072}, "more than 131072 characters", id="too long a variable"
        ),
        pytest.param({"credentials.json": "[" * 100_000}, "json is not valid JSON", id="nested too deeply"),
        pytest.param({"credentials.json": "[]"}, "json is not a JSON object", id="a list"),
        pytest.param(
            {"credentials.json": json.dumps(PROCESS | {"AccessKeyId": 7})},
            "no AccessKeyId",
            id="a number as key",
        ),
        pytest.param(VARIABLES | {"AWS_SESSION_TOKEN": ""}, "no Token", id="long-lived keys"),
        pytest.param(VARIABLES | {"expiration": ""}, "no Expiration", id="no expiration"),
        pytest.param(VARIABLES | {"expiration": "soon"}, "RFC 3339", id="invalid expiration"),
        pytest.param(VARIABLES | {"expiration": "9999-12-31T23:59:59-01:00"}, "RFC 3339", id="after year 9999"),
        pytest.param(VARIABLES | {"expiration": "2026-01-01T01:00:00"}, "time zone", id="no time zone"),
    ],
)
def test_invalid_data_is_refused(data: Mapping[str, str], reason: str) -> None:
    with pytest.raises(NoCredentialsError, match=reason) as caught:
        parse_credentials(data)

    assert "planted" not in str(caught.value)


def test_empty_cache_reports_a_reason() -> None:
    with pytest.raises(NoCredentialsError, match="no credentials are available yet"):
        CredentialCache(lambda: NOW, failure="").document()


def test_credentials_are_served_until_they_expire_despite_failures() -> None:
    clock = [NOW]
    cache = CredentialCache(lambda: clock[0])
    with pytest.raises(NoCredentialsError, match="no credentials have been read yet"):
        cache.document()
    cache.publish(parse_credentials(VARIABLES))
    cache.failure = "the directory is empty"

    clock[0] += timedelta(minutes=59)
    assert json.loads(cache.document())["AccessKeyId"] == "ASIAEXAMPLE"
    clock[0] += timedelta(minutes=1)
    with pytest.raises(NoCredentialsError, match="expired at 2026-01-01T01:00:00Z; the directory is empty"):
        cache.document()
