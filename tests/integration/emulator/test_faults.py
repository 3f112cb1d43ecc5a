import http.client
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.parsers import ResponseParserError

from tests.support.emulator.boto import USER, Boto, as_keys
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET, LICENSE_ARN, OIDC_ROLE_ARN
from tests.support.emulator.oauth.client import HttpResponse, basic_authorization, send
from tests.support.emulator.oauth.token_families import History


def refresh(aws: Emulator, token: str) -> HttpResponse:
    form, headers = {"grant_type": "refresh_token", "refresh_token": token}, (CLIENT_ID, CLIENT_SECRET)
    return send(f"{aws.issuer_url}/token", aws.ca, form, basic_authorization(*headers))


@pytest.mark.parametrize(("drop", "created"), [("before", 0), ("after", 1)], ids=["before", "after"])
def test_dropped_connection_runs_the_operation_only_before_the_drop(
    drop: str, created: int, aws: Emulator, boto: Boto
) -> None:
    secrets = len(aws.secrets())
    aws.fault("CreateToken", drop=drop)
    with pytest.raises(ConnectionClosedError):
        boto("license-manager", **USER).create_token(LicenseArn=LICENSE_ARN, ClientToken=drop)

    assert (len(aws.secrets()) - secrets, aws.recent_calls()[0]["outcome"]) == (created, f"dropped {drop}")


@pytest.mark.parametrize(("drop", "consumed"), [("before", []), ("after", [0])], ids=["before", "after"])
def test_dropped_refresh_consumes_the_token_only_before_the_drop(drop: str, consumed: list[int], aws: Emulator) -> None:
    token = aws.oauth_refresh_token()
    aws.fault("oauth:token", drop=drop)
    with pytest.raises(http.client.RemoteDisconnected):
        refresh(aws, token)

    assert aws.family(token) == History(len(consumed), consumed)
    assert aws.recent_calls()[-1]["outcome"] == f"dropped {drop}"
    assert aws.calls("oauth:refresh_token") == len(consumed)


def test_every_secret_is_recorded_and_none_is_in_the_calls(
    aws: Emulator, boto: Boto, assume_with_token: Callable[..., Any]
) -> None:
    license_token, oauth_token = aws.refresh_token(), aws.oauth_refresh_token()
    access_token = boto("license-manager").get_access_token(Token=license_token)["AccessToken"]
    keys = as_keys(assume_with_token(license_token)["Credentials"])
    user = aws.control("POST", "users", name="second")
    token = boto("license-manager", **USER).create_token(LicenseArn=LICENSE_ARN, ClientToken="secrets")["Token"]
    response = refresh(aws, oauth_token)
    issued = {license_token, access_token, keys["aws_secret_access_key"], keys["aws_session_token"], token}
    issued |= {user["secret_access_key"], USER["aws_secret_access_key"], oauth_token, CLIENT_SECRET}
    issued |= {response[name] for name in ("refresh_token", "access_token", "id_token")}
    calls = json.dumps(aws.recent_calls())

    assert issued <= set(aws.secrets())
    assert not [secret for secret in aws.secrets() if secret in calls]
    # Not the last call of all: the late response of another test may still be recorded.
    [refreshed] = [call for call in aws.recent_calls() if call["operation"] == "oauth:token"]
    assert (refreshed["principal"], refreshed["outcome"]) == (CLIENT_ID, "200")


def call_with_impossible_output() -> None:
    with running_emulator() as aws, closing(Boto(aws.url)) as boto:
        # Its subject is shorter than the model's minimum.
        params = {"RoleArn": OIDC_ROLE_ARN, "RoleSessionName": "demo", "WebIdentityToken": aws.id_token("x")}
        with pytest.raises(ResponseParserError):
            boto("sts").assume_role_with_web_identity(**params)


def test_response_that_violates_the_model_fails_the_run() -> None:
    with pytest.raises(RuntimeError, match="could not have returned"):
        call_with_impossible_output()
