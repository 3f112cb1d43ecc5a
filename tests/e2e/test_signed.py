"""Static keys on the real control plane: the operations that are signed with them."""

from typing import Any

import boto3
import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY

ROLE = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}


@pytest.mark.parametrize(
    ("exchanges", "whose"),
    [
        pytest.param([{"getSessionToken": {}}], "user/", id="a session of the user itself"),
        pytest.param([ROLE], "assumed-role/", id="a role"),
        pytest.param([{"getSessionToken": {}}, ROLE], "assumed-role/", id="a role, from a session of the user"),
    ],
)
def test_access_keys_become_short_lived_credentials(
    operator: Operator, namespace: Namespace, aws: Emulator, exchanges: list[dict[str, Any]], whose: str
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})
    namespace.apply(token_request(source={"credentials": {"secretRef": {"name": "keys"}}}, exchanges=exchanges))
    namespace.is_ready("acme")
    data = namespace.data("acme")
    client = boto3.client(
        "sts",
        region_name=data["AWS_REGION"],
        endpoint_url=aws.url,
        aws_access_key_id=data["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=data["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=data["AWS_SESSION_TOKEN"],
    )

    assert data["AWS_ACCESS_KEY_ID"] != USER_KEY_ID
    assert whose in client.get_caller_identity()["Arn"]


def test_a_missing_key_never_falls_back_to_the_operators_own_identity(
    operator: Operator, namespace: Namespace, aws: Emulator
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": USER_KEY_ID}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})
    namespace.apply(token_request(source={"credentials": {"secretRef": {"name": "keys"}}}, exchanges=[ROLE]))
    namespace.kubectl("wait", "--for=condition=Renewed=False", "treq/acme", "--timeout=20s")

    assert namespace.condition("acme", "Renewed")[1] == "SourceMissing"
    assert aws.calls("AssumeRole") == 0
