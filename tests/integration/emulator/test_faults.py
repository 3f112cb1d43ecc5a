import json
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.integration.emulator.conftest import USER, Client, as_keys, refusal
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.emulator.constants import LICENSE_ARN


@pytest.mark.parametrize(
    ("drop", "tokens"),
    [
        pytest.param("before", 0, id="dropped before: nothing happened"),
        pytest.param("after", 1, id="the lost answer: it happened"),
    ],
)
def test_a_dropped_connection(drop: str, tokens: int, aws: Emulator, client: Client) -> None:
    arn = f"{LICENSE_ARN}/{drop}"
    aws.control("POST", "licenses", arn=arn)
    user = client("license-manager", **USER)
    aws.fault("CreateToken", drop=drop)
    with pytest.raises(ConnectionClosedError):
        user.create_token(LicenseArn=arn, ClientToken=drop)
    listed = user.list_tokens(Filters=[{"Name": "LicenseArns", "Values": [arn]}])["Tokens"]

    assert (len(listed), aws.recent_calls()[0]["outcome"]) == (tokens, f"dropped {drop}")


def test_a_fault_lasts_its_times_and_then_the_next_comes(aws: Emulator, client: Client) -> None:
    aws.fault("ListTokens", code="RateLimitExceededException", times=2)
    aws.fault("ListTokens", code="ServerInternalException", status=500, times=None)
    user = client("license-manager", **USER)
    codes = [refusal(user.list_tokens)[0] for _ in range(5)]
    aws.clear_faults()
    user.list_tokens()

    assert codes == ["RateLimitExceededException"] * 2 + ["ServerInternalException"] * 3
    assert aws.calls("ListTokens") == 6


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_is_not_from_aws(status: int, aws: Emulator, client: Client) -> None:
    aws.fault("GetCallerIdentity", status=status, headers={"Retry-After": "7"})

    with pytest.raises(ClientError) as caught:
        client("sts", **USER).get_caller_identity()

    metadata = caught.value.response["ResponseMetadata"]
    assert (metadata["HTTPStatusCode"], metadata["HTTPHeaders"]["retry-after"]) == (status, "7")


@pytest.mark.parametrize("body", ["html", "empty"])
def test_a_good_status_with_nothing_in_it(body: str, aws: Emulator, client: Client) -> None:
    aws.fault("GetAccessToken", body=body)
    answer = client("license-manager").get_access_token(Token=aws.refresh_token())

    assert "AccessToken" not in answer


@pytest.mark.parametrize("delay", [{"delay_seconds": 1}, {}])
def test_an_answer_can_be_late(delay: dict[str, float], aws: Emulator, client: Client) -> None:
    aws.fault("GetCallerIdentity", **delay)
    aws.settings(latency_seconds=0 if delay else 1)

    with pytest.raises(ReadTimeoutError):
        client("sts", read_timeout=0.2, **USER).get_caller_identity()


def test_the_clock_offset_is_in_the_date_header(aws: Emulator, client: Client) -> None:
    def date() -> float:
        answer = client("sts", **USER).get_caller_identity()
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    before = date()
    aws.fault("GetCallerIdentity", clock_offset_seconds=200)

    assert 195 < date() - before < 210
    assert date() - before < 10


@pytest.mark.parametrize("fault", [{"operation": "GetAcessToken"}, {"operation": "ListTokens", "cod": "x"}])
def test_a_mistake_in_a_fault_is_refused(fault: dict[str, str], aws: Emulator) -> None:
    with pytest.raises(ValueError, match="faults: "):
        aws.control("POST", "faults", **fault)


def test_all_secrets_are_known_and_none_is_told(aws: Emulator, client: Client, assume: Callable[..., Any]) -> None:
    refresh = aws.refresh_token()
    access = client("license-manager").get_access_token(Token=refresh)["AccessToken"]
    keys = as_keys(assume(refresh)["Credentials"])
    user = aws.control("POST", "users", name="second")
    created = client("license-manager", **USER).create_token(LicenseArn=LICENSE_ARN, ClientToken="secrets")
    issued = {refresh, access, keys["aws_secret_access_key"], keys["aws_session_token"], created["Token"]}
    issued |= {user["secret_access_key"], USER["aws_secret_access_key"]}
    told = json.dumps(aws.recent_calls())

    assert issued <= set(aws.secrets())
    assert not [secret for secret in aws.secrets() if secret in told]


def test_reset_forgets_calls_and_faults_but_nothing_issued(aws: Emulator, client: Client) -> None:
    refresh = aws.refresh_token()
    aws.fault("GetAccessToken", status=500, times=None)
    aws.settings(access_token_seconds=1)
    aws.reset()
    client("license-manager").get_access_token(Token=refresh)

    assert aws.calls("GetAccessToken") == 1


def _give_an_impossible_answer(client: Client) -> None:
    with running_emulator() as aws:
        aws.refresh_token(["one", "more", "than", "three"])
        assert refusal(client("license-manager", url=aws.url, **USER).list_tokens)[1] == 500


def test_an_answer_that_aws_could_not_give_fails_the_run(client: Client) -> None:
    with pytest.raises(RuntimeError, match="could not give"):
        _give_an_impossible_answer(client)
