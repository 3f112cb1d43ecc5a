"""The operator's identity by IRSA, EKS Pod Identity and an instance profile, as their page configures them."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues
from keyturn.core.settings import AmbientRule, SourceSettings
from tests.support.cases import cases
from tests.support.cluster.page import ROOT
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, AUDIENCE
from tests.support.exchange_steps import AMBIENT_SOURCE, aws, context, emulator_settings, run_pipeline

pytestmark = pytest.mark.usefixtures("no_identity")
OPERATION = f"STS AssumeRole as the operator for arn:aws:iam::{ACCOUNT}:role/billing-reports"
GUIDE = (ROOT / "docs/exchanges/ambient-identity.md").read_text()
# The policies of the page: what the operator may do, whom a tenant's role trusts, and the operator's own role.
_, TENANT_POLICY, IRSA_POLICY, POD_IDENTITY_POLICY = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
TENANT_ROLE: dict[str, Any] = json.loads(TENANT_POLICY)["Statement"][0]
ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE"


def tenant_role(emulator: Emulator, **changes: Any) -> str:
    return emulator.role("billing-reports", TENANT_ROLE | changes)


class Identities:
    """Gives this process the role Keyturn, each method in another way."""

    def __init__(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self._emulator = emulator
        self._environment = monkeypatch
        self._directory = directory

    def irsa(self, account: str = "keyturn") -> None:
        policy = IRSA_POLICY.replace(ISSUER, self._emulator.issuer_url.removeprefix("https://"))
        role = self._emulator.role("Keyturn", *json.loads(policy)["Statement"])
        token = self._emulator.jwt(AUDIENCE, subject=f"system:serviceaccount:keyturn:{account}")
        (self._directory / "token").write_text(token)
        self._set(
            AWS_ROLE_ARN=role,
            AWS_WEB_IDENTITY_TOKEN_FILE=str(self._directory / "token"),
            AWS_ENDPOINT_URL_STS=self._emulator.url,
        )

    def pod_identity(self, **association: bool) -> None:
        role = self._emulator.role("Keyturn", *json.loads(POD_IDENTITY_POLICY)["Statement"])
        self._emulator.ambient(roleArn=role, **association)
        (self._directory / "token").write_text("a projected token")
        self._set(
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{self._emulator.url}/v1/credentials",
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(self._directory / "token"),
        )

    def instance_profile(self) -> None:
        service = {"Service": "ec2.amazonaws.com"}
        role = self._emulator.role("Keyturn", {"Effect": "Allow", "Principal": service, "Action": "sts:AssumeRole"})
        self._emulator.ambient(instance_role=role)
        self._set(AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT=self._emulator.url)

    def _set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._environment.setenv(name, value)


@pytest.fixture
def identities(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Identities:
    return Identities(emulator, monkeypatch, tmp_path)


async def assume(emulator: Emulator, role: str, *more: dict[str, Any], **fields: Any) -> PipelineValues:
    """Assume a role with the operator's identity, as a restarted operator."""
    sources = SourceSettings(ambient=(AmbientRule(namespaces=("billing",), roles=(role,)),))
    with closing(aws(emulator_settings(emulator), allow_ambient=True)) as client:
        exchanges = [{"assumeRole": {"roleArn": role, **fields}}, *more]
        return await run_pipeline(context(client, sources=sources), source=AMBIENT_SOURCE, exchanges=exchanges)


async def refused(emulator: Emulator, role: str, *more: dict[str, Any], **fields: Any) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await assume(emulator, role, *more, **fields)
    return raised.value


@cases(
    "configure",
    {
        "IRSA": Identities.irsa,
        "Pod Identity without session tags": lambda identities: identities.pod_identity(disableSessionTags=True),
        "instance profile": Identities.instance_profile,
    },
)
async def test_role_is_assumed_with_the_operators_identity(
    configure: Callable[[Identities], None], identities: Identities, emulator: Emulator
) -> None:
    configure(identities)
    values = await assume(emulator, tenant_role(emulator), tags=[{"key": "team", "value": "blue"}])

    assert values.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/billing-reports/billing.acme"


@cases(
    "fields",
    {
        "Keyturn's tags": {},
        "a tag of the spec, too": {"tags": [{"key": "Eks-Cluster-Name", "value": "test"}]},
    },
)
async def test_session_tags_of_pod_identity_are_named_as_the_cause(
    fields: dict[str, Any], identities: Identities, emulator: Emulator
) -> None:
    identities.pod_identity()
    error = await refused(emulator, tenant_role(emulator), **fields)

    assert error.reason == "InvalidSpec"
    assert error.message == (
        f"{OPERATION}: InvalidParameterValue; check the tags: the operator's session has a transitive tag with the same"
        " key as a tag that Keyturn sets (kubernetes-namespace and kubernetes-name) or as one in `tags`; with EKS Pod"
        " Identity, set disableSessionTags in the operator's Pod Identity association"
    )


async def test_role_without_tag_session_is_named_as_the_cause(identities: Identities, emulator: Emulator) -> None:
    identities.pod_identity(disableSessionTags=True)
    role = tenant_role(emulator, Action=["sts:AssumeRole"])
    error = await refused(emulator, role)

    assert error.reason == "AccessDenied"
    assert error.message == (
        f"{OPERATION}: AccessDenied; the role's trust policy and the policies of the operator's role must allow"
        " sts:TagSession and sts:AssumeRole: Keyturn tags the session with kubernetes-namespace and"
        " kubernetes-name"
    )


@cases(
    "changes",
    {
        "another namespace": {"Condition": {"StringEquals": {"aws:RequestTag/kubernetes-namespace": "shop"}}},
        "another operator": {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/Other"}},
    },
)
async def test_role_that_does_not_trust_the_operator_names_its_trust_policy(
    changes: dict[str, Any], identities: Identities, emulator: Emulator
) -> None:
    identities.irsa()
    error = await refused(emulator, tenant_role(emulator, **changes))

    assert error.reason == "AccessDenied"
    assert error.message == (
        f"{OPERATION}: AccessDenied; check that the role exists and that its trust policy allows sts:AssumeRole for"
        " the operator's role, with conditions that match the tags kubernetes-namespace and kubernetes-name"
    )


async def test_second_role_needs_tag_session_for_inherited_tags(identities: Identities, emulator: Emulator) -> None:
    identities.instance_profile()
    statement = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    second = emulator.role("second", statement)
    inherited = {"tags": [{"key": "team", "value": "blue"}], "transitiveTagKeys": ["team"]}
    error = await refused(emulator, tenant_role(emulator), {"assumeRole": {"roleArn": second}}, **inherited)

    assert error.message == (
        f"STS AssumeRole for {second}: AccessDenied; the role's trust policy and the policies of the caller must allow"
        " sts:TagSession, because the session has tags, from the spec or the transitive tags of the caller"
    )


async def test_longer_session_names_the_limit_of_role_chaining(identities: Identities, emulator: Emulator) -> None:
    identities.irsa()
    error = await refused(emulator, tenant_role(emulator), durationSeconds=7200)

    assert error.reason == "InvalidSpec"
    assert "does not exceed 3600" in error.message


async def test_operator_whose_own_role_refuses_it_is_unavailable(identities: Identities, emulator: Emulator) -> None:
    identities.irsa(account="default")
    error = await refused(emulator, tenant_role(emulator))

    assert error.reason == "Unavailable"
    assert error.message == (
        f"{OPERATION}: the operator has no AWS identity: AssumeRoleWithWebIdentity for its own role failed with"
        " AccessDenied; check the trust policy of the operator's role"
    )
