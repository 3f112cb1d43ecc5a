import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.emulator.conftest import USER, Client, as_keys, refusal
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, trust_policy

ASKED = {"RoleArn": ACCOUNT_ROLE_ARN, "RoleSessionName": "demo"}
EVERYTHING = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})
TAGGED = {"Tags": [{"Key": "Team", "Value": "blue"}], "TransitiveTagKeys": ["Team"]}
NewRole = Callable[..., str]


@pytest.fixture
def assume(aws: Emulator, client: Client) -> Callable[..., Any]:
    """Assume a role with these keys, of the user if there are none."""

    def assume(keys: dict[str, str] = USER, **changes: Any) -> Any:
        return client("sts", **keys).assume_role(**{**ASKED, **changes})

    return assume


@pytest.fixture
def new_role(aws: Emulator) -> NewRole:
    def new_role(name: str, principal: str, actions: list[str] = EVERYTHING, **condition: Any) -> str:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        policy = trust_policy({"AWS": principal}, actions, condition)
        aws.control("POST", "roles", arn=arn, trust_policy=policy, max_session_seconds=43200)
        return arn

    return new_role


def test_a_session_proves_who_it_is(client: Client, assume: Callable[..., Any]) -> None:
    answer = assume(Policy=POLICY, DurationSeconds=43200, SourceIdentity="alice")
    identity = client("sts", **as_keys(answer["Credentials"])).get_caller_identity()

    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer/demo"
    assert answer["AssumedRoleUser"] == {"AssumedRoleId": identity["UserId"], "Arn": identity["Arn"]}
    assert answer["SourceIdentity"] == "alice"
    assert 0 < answer["PackedPolicySize"] < 10


def test_a_session_lives_for_an_hour_or_as_asked(assume: Callable[..., Any]) -> None:
    def left(**asked: int) -> timedelta:
        ends: datetime = assume(**asked)["Credentials"]["Expiration"]
        return ends - datetime.now(UTC)  # noqa: TID251 - a real server

    assert timedelta(minutes=59) < left() <= timedelta(hours=1)
    assert timedelta(hours=11) < left(DurationSeconds=43200) <= timedelta(hours=12)


def test_a_session_token_is_as_long_as_asked(assume: Callable[..., Any]) -> None:
    assert len(assume(MinimumSessionTokenSize=4096)["Credentials"]["SessionToken"]) >= 4096


def _tags(count: int, **tag: str) -> list[dict[str, str]]:
    return [{"Key": f"key-{number}", "Value": "", **tag} for number in range(count)]


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        pytest.param({"RoleArn": ACCOUNT_ROLE_ARN + "2"}, "AccessDenied", 403, id="no such role"),
        pytest.param({"RoleSessionName": "a b"}, "ValidationError", 400, id="a space in the session name"),
        pytest.param({"DurationSeconds": 43201}, "ValidationError", 400, id="over 12 hours"),
        pytest.param({"ExternalId": "a b"}, "ValidationError", 400, id="a space in the external id"),
        pytest.param({"SourceIdentity": "aws:x"}, "ValidationError", 400, id="a source identity of AWS"),
        pytest.param({"Policy": "{"}, "MalformedPolicyDocument", 400, id="a policy that is no JSON"),
        pytest.param(
            {"Policy": json.dumps({"Sid": "x" * 2040})}, "PackedPolicyTooLarge", 400, id="a policy over 2048"
        ),
        pytest.param(
            {"Policy": POLICY, "PolicyArns": [{"arn": f"arn:aws:iam::{ACCOUNT}:policy/{'x' * 2000}"}]},
            "PackedPolicyTooLarge",
            400,
            id="a policy and ARNs over 2048 together",
        ),
        pytest.param(
            {"PolicyArns": [{"arn": f"arn:aws:iam::{ACCOUNT}:policy/p"}] * 11},
            "ValidationError",
            400,
            id="11 ARNs",
        ),
        pytest.param({"Tags": _tags(51)}, "ValidationError", 400, id="51 tags"),
        pytest.param({"Tags": _tags(1, Key="x" * 129)}, "ValidationError", 400, id="a tag key of 129"),
        pytest.param({"Tags": _tags(1, Value="x" * 257)}, "ValidationError", 400, id="a tag value of 257"),
        pytest.param({"Tags": _tags(1, Key="a\tb")}, "ValidationError", 400, id="a tab in a tag key"),
        pytest.param({"Tags": _tags(1, Key="Aws:x")}, "InvalidParameterValue", 400, id="a tag of AWS"),
        pytest.param(
            {"Tags": [*_tags(1, Key="a"), *_tags(1, Key="A")]}, "InvalidParameterValue", 400, id="a tag twice"
        ),
        pytest.param({"TransitiveTagKeys": ["a"]}, "InvalidParameterValue", 400, id="transitive, but no tag"),
        pytest.param(
            {"Tags": [{"Key": f"{n}", "Value": f"{n**99:x}"[:256]} for n in range(2, 52)]},
            "PackedPolicyTooLarge",
            400,
            id="50 tags that do not pack well",
        ),
    ],
)
def test_assume_role_refuses(changes: dict[str, Any], code: str, status: int, assume: Callable[..., Any]) -> None:
    assert refusal(assume, **changes) == (code, status)


def test_tags_may_have_letters_of_any_language(assume: Callable[..., Any]) -> None:
    assert assume(Tags=[{"Key": "équipe 東", "Value": "ünï/_1:=+-@."}])["PackedPolicySize"] > 0


@pytest.mark.parametrize(
    ("principal", "trusted"),
    [
        pytest.param(f"arn:aws:iam::{ACCOUNT}:root", True, id="the account by its root"),
        pytest.param(ACCOUNT, True, id="the account by its number"),
        pytest.param(f"arn:aws:iam::{ACCOUNT}:user/keyturn", True, id="the user"),
        pytest.param(f"arn:aws:iam::{ACCOUNT}:user/other", False, id="another user"),
        pytest.param("444455556666", False, id="another account"),
    ],
)
def test_whom_a_role_trusts(
    principal: str, new_role: NewRole, assume: Callable[..., Any], *, trusted: bool
) -> None:
    arn = new_role("Trusting", principal)

    if trusted:
        assert assume(RoleArn=arn)["AssumedRoleUser"]["Arn"].endswith("/Trusting/demo")
    else:
        assert refusal(assume, RoleArn=arn) == ("AccessDenied", 403)


def test_a_role_trusts_a_role_or_one_session_of_it(new_role: NewRole, assume: Callable[..., Any]) -> None:
    of_role = new_role("OfRole", ACCOUNT_ROLE_ARN)
    of_session = new_role("OfSession", f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer/demo")
    demo, other = (as_keys(assume(RoleSessionName=name)["Credentials"]) for name in ("demo", "other"))

    assert assume(demo, RoleArn=of_role)
    assert assume(demo, RoleArn=of_session)
    assert assume(other, RoleArn=of_role)
    assert refusal(assume, keys=other, RoleArn=of_session) == ("AccessDenied", 403)
    assert refusal(assume, RoleArn=of_role) == ("AccessDenied", 403)


def test_an_external_id_must_be_the_one_in_the_trust(new_role: NewRole, assume: Callable[..., Any]) -> None:
    arn = new_role("External", ACCOUNT, StringEquals={"sts:ExternalId": "our:id"})

    assert assume(RoleArn=arn, ExternalId="our:id")
    assert refusal(assume, RoleArn=arn, ExternalId="other") == ("AccessDenied", 403)
    assert refusal(assume, RoleArn=arn) == ("AccessDenied", 403)


@pytest.mark.parametrize("asked", [{"Tags": TAGGED["Tags"]}, {"SourceIdentity": "alice"}])
def test_tags_and_source_identity_need_a_trust_of_their_own(
    asked: dict[str, Any], new_role: NewRole, assume: Callable[..., Any]
) -> None:
    arn = new_role("Plain", ACCOUNT, ["sts:AssumeRole"])

    assert assume(RoleArn=arn)
    with pytest.raises(ClientError, match=r"perform: sts:(TagSession|SetSourceIdentity)"):
        assume(RoleArn=arn, **asked)


def test_a_chained_session_lives_for_an_hour_at_most(assume: Callable[..., Any]) -> None:
    first = as_keys(assume()["Credentials"])

    assert assume(first, DurationSeconds=3600)
    assert refusal(assume, keys=first, DurationSeconds=3601) == ("ValidationError", 400)


def test_transitive_tags_are_handed_on_and_cannot_be_replaced(
    new_role: NewRole, assume: Callable[..., Any]
) -> None:
    plain = new_role("Plain", ACCOUNT, ["sts:AssumeRole"])
    second = as_keys(assume(as_keys(assume(**TAGGED)["Credentials"]))["Credentials"])
    untagged = as_keys(assume(Tags=TAGGED["Tags"])["Credentials"])

    assert refusal(assume, keys=second, Tags=_tags(1, Key="team")) == ("InvalidParameterValue", 400)
    assert refusal(assume, keys=second, RoleArn=plain) == ("AccessDenied", 403)
    assert assume(untagged, RoleArn=plain, RoleSessionName="what is not transitive ends here".replace(" ", "-"))


def test_a_source_identity_is_handed_on_and_cannot_be_changed(assume: Callable[..., Any]) -> None:
    first = as_keys(assume(SourceIdentity="alice")["Credentials"])

    assert assume(first)["SourceIdentity"] == "alice"
    assert assume(first, SourceIdentity="alice")["SourceIdentity"] == "alice"
    assert refusal(assume, keys=first, SourceIdentity="bob") == ("AccessDenied", 403)


def test_the_unsigned_are_refused(client: Client) -> None:
    assert refusal(client("sts").assume_role, **ASKED) == ("MissingAuthenticationToken", 403)


def test_an_expired_session_is_refused(aws: Emulator, assume: Callable[..., Any]) -> None:
    aws.fault("AssumeRole", expired=True)

    assert refusal(assume, keys=as_keys(assume()["Credentials"])) == ("ExpiredToken", 403)


def test_a_role_may_want_mfa(aws: Emulator, client: Client, new_role: NewRole, assume: Callable[..., Any]) -> None:
    arn = new_role("Mfa", ACCOUNT, Bool={"aws:MultiFactorAuthPresent": "true"})
    serial, code = aws.mfa_code()
    shown = {"SerialNumber": serial, "TokenCode": code}

    assert refusal(assume, RoleArn=arn) == ("AccessDenied", 403)
    assert assume(RoleArn=arn, **shown)
    assert refusal(assume, RoleArn=arn, **shown) == ("AccessDenied", 403)


@pytest.mark.parametrize("shown", [True, False])
def test_a_session_of_a_user_remembers_mfa(
    aws: Emulator, client: Client, new_role: NewRole, assume: Callable[..., Any], *, shown: bool
) -> None:
    arn = new_role("Mfa", ACCOUNT, Bool={"aws:MultiFactorAuthPresent": str(shown).lower()})
    serial, code = aws.mfa_code()
    asked = {"SerialNumber": serial, "TokenCode": code} if shown else {}
    keys = as_keys(client("sts", **USER).get_session_token(**asked)["Credentials"])

    assert assume(keys, RoleArn=arn)
