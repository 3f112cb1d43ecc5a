"""What a user who may only create TokenRequests cannot reach through any field."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyturn.api.base import InvalidSpecError
from keyturn.api.crd import schema
from keyturn.api.token_request import parse
from tests.support.cluster.fixtures import delete_requests
from tests.support.cluster.namespace import ROLE, Namespace, token_request
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.sources import USER_KEYS, service_account_issuer
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, USER_KEY_ID
from tests.support.manifests import MANIFESTS
from tests.support.manifests.fields import Location, manifest_strings, schema_strings, with_string
from tests.support.processes import until

_PARAMETERS = (
    "accountId actorTokenType arn audience[] clientId customRoleArn domain domainOwner externalId extraParameters.* "
    "getFederationToken.name identityPoolId keyId licenseArn policy providerId redirectUri registryIds[] "
    "repositories[].repository requestedTokenType resource[] roleArn roleArns[] roleName roleSessionName scope[] "
    "serialNumber sourceIdentity subjectTokenType tags[].key tags[].value tokenProperties[] transitiveTagKeys[]"
)
_WRITTEN = "formats[].*.key annotations.* labels.* mountPath profile formats[].*.repository hosts[] scope serverId text"
# How each string field of a TokenRequest is used. A new field fails the test until it is listed.
USES = {
    "an object": "secretKeyRef.name configMapKeyRef.name secretRef.name secretName serviceAccount.name",
    "a key of an object": "secretKeyRef.key configMapKeyRef.key",
    "a host of AWS": "region",
    "a host that the user chooses": "tokenUrl",
    "an audience of a ServiceAccount token": "serviceAccount.audiences[]",
    "a part of the signed assertion of a client": "clientAssertion.audience claims.* headers.*",
    "a parameter of AWS or the issuer": _PARAMETERS,
    "a part of the written Secret": _WRITTEN,
    "a time": "renewBefore gracePeriod assumedLifetime",
}
# Separated by spaces; a valid value with a newline and an empty one are added.
_HOSTILE = {
    "an object": "../../other/secrets/treasure other/treasure .. . a%2Fb a?b a#b",
    "a key of an object": "../treasure a/b ..",
    "a host of AWS": "us-east-1.evil.example evil.example/ evil.example# a@evil 127.0.0.1 a:1 a%2Eb [::1] -",
    "a host that the user chooses": (
        "http://id.example file:///etc/passwd https://me@id.example https://me@id.example?a //id.example "
        "https://id.example#a https://id.example?a#b https:///token https://?a https://"
    ),
}
_VALID = {"a host of AWS": "us-east-1", "a host that the user chooses": "https://id.example/"}
HOSTILE = {use: [*texts.split(), f"{_VALID.get(use, 'treasure')}\n", ""] for use, texts in _HOSTILE.items()}


def field_uses() -> dict[str, str]:
    """Return how each string field of the spec is used."""
    return {path: "; ".join(_uses(path)) for path, _ in schema_strings(schema()["properties"]["spec"])}


def _uses(path: str) -> list[str]:
    return [use for use, endings in USES.items() if any(_ends_with(path, ending) for ending in endings.split())]


def _ends_with(path: str, ending: str) -> bool:
    pattern = re.escape(ending).replace(re.escape("[].*."), r"\[\]\.[a-zA-Z]+\.")
    return re.search(rf"(^|\.){pattern}$", path) is not None


def fields_with_use(use: str) -> dict[str, tuple[dict[str, Any], Location]]:
    """Return a valid manifest for each field with this use, and the path to the field in it."""
    paths, manifests = {path for path, field_use in field_uses().items() if field_use == use}, {}
    for body, error in MANIFESTS.values():
        for path, location in [*manifest_strings(body["spec"]), *_regions(body["spec"])]:
            if error is None and path in paths:
                manifests[path] = (body, ("spec", *location))
    assert paths == manifests.keys()
    return manifests


def _regions(spec: dict[str, Any]) -> Iterator[tuple[str, Location]]:
    """Yield the path to the optional region in each exchange."""
    for index, exchange in enumerate(spec.get("exchanges", ())):
        for name in exchange:
            yield f"exchanges[].{name}.region", ("exchanges", index, name, "region")


def test_use_of_each_field_is_known() -> None:
    assert {path: use for path, use in field_uses().items() if use not in USES} == {}


@pytest.mark.parametrize("use", HOSTILE)
def test_hostile_values_are_refused(use: str) -> None:
    for path, (body, location) in fields_with_use(use).items():
        for text in HOSTILE[use]:
            with pytest.raises(InvalidSpecError, match=f"at spec.*{re.escape(str(location[-1]))}"):
                pytest.fail(f"{path} accepted {text!r}: {parse(with_string(body, location, text))}")


@pytest.mark.parametrize("use", HOSTILE)
def test_hostile_values_are_refused_by_the_api_server(installed: ControlPlane, use: str) -> None:
    fields = list(fields_with_use(use).values())
    bodies = [with_string(body, location, HOSTILE[use][0]) for body, location in fields]
    bodies += [with_string(*fields[0], text) for text in HOSTILE[use][1:]]
    manifests = [body | {"metadata": {"name": "acme"}} for body in (*bodies, fields[0][0])]
    output = installed.kubectl(
        *("--namespace=default", "create", "--dry-run=server", "--filename=-"),
        stdin="\n---\n".join(map(json.dumps, manifests)),
        check=False,
    )

    assert output.count("acme created") == 1  # the valid manifest
    assert output.count("is invalid") == len(bodies)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A user who may create TokenRequests in a namespace, and nothing else."""

    namespace: Namespace
    kubeconfig: Path

    def create(self, manifest: dict[str, Any], *, namespace: str = "") -> str:
        """Create a TokenRequest; returns kubectl's output."""
        scope = ("--namespace", namespace or self.namespace.name)
        return self.namespace.plane.kubectl(
            *scope, "create", "-f", "-", stdin=json.dumps(manifest), check=False, kubeconfig=self.kubeconfig
        )

    def wait_until_refused(self, reason: str, name: str = "acme") -> str:
        return self.namespace.wait_for_condition(name, "Renewed", reason)


@pytest.fixture
def tenant(powerful_operator: Operator, namespace: Namespace, aws: Emulator) -> Tenant:
    namespace.put_token(aws.refresh_token())
    namespace.kubectl("create", "serviceaccount", "tenant")
    namespace.kubectl("create", "role", "tenant", "--verb=create", "--resource=tokenrequests.keyturn.dev")
    namespace.kubectl("create", "rolebinding", "tenant", "--role=tenant", f"--serviceaccount={namespace.name}:tenant")
    return Tenant(namespace, namespace.plane.service_account_kubeconfig(namespace.name, "tenant"))


@pytest.fixture(scope="module")
def powerful_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator with an ambient AWS identity and the right to create tokens of service accounts."""
    delete_requests(installed)
    installed.kubectl("create", "clusterrole", "powerful", "--verb=create", "--resource=serviceaccounts/token")
    account = ("--clusterrole=powerful", "--serviceaccount=keyturn:keyturn")
    installed.kubectl("create", "clusterrolebinding", "powerful", *account)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in USER_KEYS.items():
            environment.setenv(name, value)
        audiences = {"sources": {"audiences": ["sts.amazonaws.com", service_account_issuer(installed)]}}
        directory = tmp_path_factory.mktemp("powerful")
        with running_operator(installed, shared_emulator, directory, settings=audiences) as operator:
            yield operator
            assert "internal error" not in operator.log()
    installed.kubectl("delete", "clusterrole,clusterrolebinding", "powerful")


def secret_source(name: str) -> dict[str, Any]:
    return {"token": {"secretKeyRef": {"name": name, "key": "license_token"}}}


def oauth_spec(url: str, **source: Any) -> dict[str, Any]:
    """Return a spec that sends a token to an issuer."""
    step = {"tokenUrl": url, "grantType": "refresh_token", "clientId": "me"}
    with_source = secret_source("license") | {"token": secret_source("license")["token"] | source}
    return {"source": with_source, "exchanges": [{"oauthToken": step}], "target": {"formats": [{"token": {}}]}}


def test_other_namespaces_are_out_of_reach(tenant: Tenant, aws: Emulator) -> None:
    other = Namespace.create(tenant.namespace.plane)
    other.put_token(aws.refresh_token(), name="treasure")

    assert "forbidden" in tenant.create(token_request(), namespace=other.name)
    tenant.create(token_request(source=secret_source("treasure")))
    assert "Secret treasure does not exist" in tenant.wait_until_refused("SourceNotFound")
    assert aws.recent_calls() == []


def test_ambient_identity_is_out_of_reach(tenant: Tenant, aws: Emulator) -> None:
    role = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
    tenant.create(token_request(source={"credentials": {"ambient": {}}}, exchanges=[role]))

    assert "sources.ambient" in tenant.wait_until_refused("IdentityNotAllowed")
    assert aws.recent_calls() == []


def test_missing_key_does_not_fall_back_to_the_ambient_identity(tenant: Tenant, aws: Emulator) -> None:
    tenant.namespace.put_secret("incomplete", {"AWS_ACCESS_KEY_ID": USER_KEY_ID})
    role = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
    tenant.create(token_request(source={"credentials": {"secretRef": {"name": "incomplete"}}}, exchanges=[role]))

    tenant.wait_until_refused("SourceNotFound")
    assert aws.recent_calls() == []


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param("theirs", {"target": {"secretName": "theirs"}}, id="as the target"),
        pytest.param("theirs", oauth_spec("https://id.example", saveTo={"secretName": "theirs"}), id="in saveTo"),
        pytest.param("license-keyturn", oauth_spec("https://id.example"), id="as the token Secret of the source"),
    ],
)
def test_foreign_secrets_are_not_written(tenant: Tenant, aws: Emulator, name: str, spec: dict[str, Any]) -> None:
    tenant.namespace.put_token("theirs", name=name, key="password")
    before = tenant.namespace.get("secret", name)
    tenant.create(token_request(**spec))

    tenant.wait_until_refused("TargetConflict")
    assert tenant.namespace.get("secret", name) == before


@pytest.mark.parametrize(
    ("audience", "message"),
    [
        ("", "the API server itself accepts tokens"),
        ("https://kubernetes.default.svc", "sources.audiences"),
    ],
)
def test_tokens_for_the_api_server_are_refused(tenant: Tenant, aws: Emulator, audience: str, message: str) -> None:
    audiences = ["sts.amazonaws.com", audience or service_account_issuer(tenant.namespace.plane)]
    account = {"name": "tenant", "audiences": audiences}
    role = {"assumeRoleWithWebIdentity": {"roleArn": ROLE}}
    target: dict[str, Any] = {"formats": [{"token": {}}]}
    tenant.create(token_request(source={"token": {"serviceAccount": account}}, exchanges=[role], target=target))

    assert message in tenant.wait_until_refused("IdentityNotAllowed")
    assert tenant.namespace.get("secret", "acme") == {}
    assert aws.recent_calls() == []


# Ways to write an address of loopback with a port; tests/unit/exchanges/test_issuer_sockets.py classifies addresses.
_LOOPBACK = "127.0.0.1 localhost [::1] [::ffff:127.0.0.1] 127.1 2130706433 0x7f000001 0177.0.0.1 0.0.0.0 [::]"


def test_internal_addresses_are_not_called(tenant: Tenant) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        urls = [f"https://{host}:{server.getsockname()[1]}" for host in _LOOPBACK.split()]
        urls += ["https://169.254.169.254/latest", "https://10.0.0.1/", f"{tenant.namespace.plane.url}/token"]
        for number, url in enumerate(urls):
            tenant.create(token_request(f"issuer-{number}", **oauth_spec(url)))

        messages = {url: _message(tenant, f"issuer-{number}") for number, url in enumerate(urls)}
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()

    assert [url for url, text in messages.items() if not re.search("could not be reached|it has no host", text)] == []


def _message(tenant: Tenant, name: str) -> str:
    until(lambda: tenant.namespace.condition(name, "Renewed")[1] not in ("", "Pending"))
    return tenant.namespace.condition(name, "Renewed")[2]
