"""What whoever may only create TokenRequests in a namespace cannot reach, through any field."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyturn.api.crd import schema
from keyturn.api.token_request import parse
from keyturn.core.errors import RefusedError
from tests.support.cluster.audit import Right, granted
from tests.support.cluster.chart import chart_objects
from tests.support.cluster.namespace import ROLE, Namespace, token_request
from tests.support.cluster.operator import Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.manifests import MANIFESTS
from tests.support.manifests.fields import Place, replaced, texts_of, texts_of_schema
from tests.support.processes import until

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "operations" / "security.md").read_text()
_READ_ELSEWHERE = (
    *("accountId", "actorTokenType", "arn", "audience[]", "clientId", "customRoleArn", "domain", "domainOwner"),
    *("externalId", "extraParameters.*", "getFederationToken.name", "identityPoolId", "keyId", "licenseArn"),
    *("policy", "providerId", "redirectUri", "registryIds[]", "repositories[].repository", "requestedTokenType"),
    *("resource[]", "roleArn", "roleArns[]", "roleName", "roleSessionName", "scope[]", "serialNumber"),
    *("sourceIdentity", "subjectTokenType", "tags[].key", "tags[].value", "tokenProperties[]"),
    "transitiveTagKeys[]",
)
_WRITTEN = (
    *("formats[].*.key", "annotations.*", "labels.*", "mountPath", "profile", "formats[].*.repository", "scope"),
    *("serverId", "text"),
)
# What a text of a TokenRequest leads to. A new field fits none of these until somebody has thought of it.
REACHES: dict[str, tuple[str, ...]] = {
    "an object of the namespace": (
        *("secretKeyRef.name", "configMapKeyRef.name", "secretRef.name", "serviceAccount.name", "secretName"),
    ),
    "a key of such an object": ("secretKeyRef.key", "configMapKeyRef.key"),
    "a host of AWS": ("region",),
    "a host of the user's": ("tokenUrl",),
    "who takes a token of a ServiceAccount": ("serviceAccount.audiences[]",),
    "AWS or the issuer, which reads it": _READ_ELSEWHERE,
    "the Secret, where it is written": _WRITTEN,
    "a time": ("renewBefore", "after"),
}
HOSTILE = {
    "an object of the namespace": (
        *("../../other/secrets/treasure", "other/treasure", "..", ".", "a%2Fb", "a?b", "a#b", "treasure\n", ""),
    ),
    "a key of such an object": ("../treasure", "a/b", "..", "token\n", ""),
    "a host of AWS": (
        *(
            "evil.example",
            "us-east-1.evil.example",
            "evil.example/",
            "evil.example#",
            "a@evil",
            "127.0.0.1",
            "a:1",
        ),
        *("us-east-1\n", "a%2Eb", "[::1]", "-", ""),
    ),
    "a host of the user's": (
        *(
            "http://id.example",
            "file:///etc/passwd",
            "https://me@id.example",
            "https://id.example?a",
            "//id.example",
        ),
        *("https://id.example#a", "https:///token", "https://id.example/\n", "https://", ""),
    ),
}


def fields() -> dict[str, str]:
    """What each text of a spec leads to."""
    return {path: "; ".join(_led_to(path)) for path, _ in texts_of_schema(schema()["properties"]["spec"])}


def _led_to(path: str) -> list[str]:
    return [kind for kind, ends in REACHES.items() if any(_fits(path, end) for end in ends)]


def _fits(path: str, end: str) -> bool:
    pattern = re.escape(end).replace(re.escape("[].*."), r"\[\]\.[a-zA-Z]+\.")
    return re.search(rf"(^|\.){pattern}$", path) is not None


def places(kind: str) -> dict[str, tuple[dict[str, Any], Place]]:
    """A good manifest for each field that leads to this, and the way to the field in it."""
    wanted, found = {path for path, led in fields().items() if led == kind}, {}
    for body, says in MANIFESTS.values():
        for path, place in [*texts_of(body["spec"]), *_regions(body["spec"])]:
            if says is None and path in wanted:
                found[path] = (body, ("spec", *place))
    assert wanted == found.keys()
    return found


def _regions(spec: dict[str, Any]) -> Iterator[tuple[str, Place]]:
    """Any exchange with AWS may have a region."""
    for index, exchange in enumerate(spec.get("exchanges", ())):
        for name in exchange:
            yield f"exchanges[].{name}.region", ("exchanges", index, name, "region")


def test_each_field_is_known_to_lead_somewhere() -> None:
    assert {path: led for path, led in fields().items() if led not in REACHES} == {}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_name_is_no_path_and_a_region_no_host(kind: str) -> None:
    for path, (body, place) in places(kind).items():
        for text in HOSTILE[kind]:
            with pytest.raises(RefusedError, match=f"at spec.*{re.escape(str(place[-1]))}"):
                pytest.fail(f"{path} took {text!r}: {parse(replaced(body, place, text))}")


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_api_server_lets_none_of_them_in(installed: ControlPlane, kind: str) -> None:
    found = list(places(kind).values())
    bodies = [replaced(body, place, HOSTILE[kind][0]) for body, place in found]
    bodies += [replaced(*found[0], text) for text in HOSTILE[kind][1:]]
    plain = [body | {"metadata": {"name": "acme"}} for body in (*bodies, found[0][0])]
    answer = installed.kubectl(
        *("--namespace=default", "create", "--dry-run=server", "--filename=-"),
        stdin="\n---\n".join(map(json.dumps, plain)),
        check=False,
    )

    assert answer.count("acme created") == 1  # the good one
    assert answer.count("is invalid") == len(bodies)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody who may create TokenRequests in a namespace, and nothing else."""

    namespace: Namespace
    kubeconfig: Path

    def create(self, manifest: dict[str, Any], *, where: str = "") -> str:
        """Create a TokenRequest; returns what kubectl said."""
        place = ("--namespace", where or self.namespace.name)
        return self.namespace.plane.kubectl(
            *place, "create", "-f", "-", stdin=json.dumps(manifest), check=False, kubeconfig=self.kubeconfig
        )

    def is_refused(self, reason: str, name: str = "acme") -> str:
        """Wait until a TokenRequest is refused for a reason; returns the message."""
        return self.namespace.turns(name, "Renewed", reason)


@pytest.fixture
def tenant(powerful_operator: Operator, namespace: Namespace, aws: Emulator) -> Tenant:
    namespace.token(aws.refresh_token())
    namespace.kubectl("create", "serviceaccount", "tenant")
    namespace.kubectl("create", "role", "tenant", "--verb=create", "--resource=tokenrequests.keyturn.dev")
    namespace.kubectl(
        "create", "rolebinding", "tenant", "--role=tenant", f"--serviceaccount={namespace.name}:tenant"
    )
    return Tenant(namespace, namespace.plane.service_account_kubeconfig(namespace.name, "tenant"))


@pytest.fixture(scope="module")
def powerful_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator with an AWS identity of its own and the right to make tokens of service accounts."""
    installed.kubectl("create", "clusterrole", "powerful", "--verb=create", "--resource=serviceaccounts/token")
    account = ("--clusterrole=powerful", "--serviceaccount=keyturn:keyturn")
    installed.kubectl("create", "clusterrolebinding", "powerful", *account)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", USER_KEY_ID)
        environment.setenv("AWS_SECRET_ACCESS_KEY", USER_SECRET_KEY)
        audiences = {"sources": {"audiences": ["sts.amazonaws.com", own_audience(installed)]}}
        directory = tmp_path_factory.mktemp("powerful")
        with running_operator(installed, shared_emulator, directory, settings=audiences) as operator:
            yield operator
            assert "a bug" not in operator.log()
    installed.kubectl("delete", "clusterrole,clusterrolebinding", "powerful")


def own_audience(plane: ControlPlane) -> str:
    issuer: str = json.loads(plane.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    return issuer


def reading(name: str) -> dict[str, Any]:
    """A source that is read from a Secret."""
    return {"token": {"secretKeyRef": {"name": name, "key": "license_token"}}}


def refreshing(url: str, **source: Any) -> dict[str, Any]:
    """A spec that sends a token to an issuer."""
    step = {"tokenUrl": url, "grantType": "refresh_token", "clientId": "me"}
    given = reading("license") | {"token": reading("license")["token"] | source}
    return {"source": given, "exchanges": [{"oauthToken": step}], "target": {"formats": [{"token": {}}]}}


def test_another_namespace(tenant: Tenant, aws: Emulator) -> None:
    other = Namespace.created(tenant.namespace.plane)
    other.token(aws.refresh_token(), name="treasure")

    assert "forbidden" in tenant.create(token_request(), where=other.name)
    tenant.create(token_request(source=reading("treasure")))
    assert "Secret treasure does not exist" in tenant.is_refused("SourceMissing")
    assert aws.recent_calls() == []


def test_the_identity_of_the_operator(tenant: Tenant, aws: Emulator) -> None:
    role = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
    tenant.create(token_request(source={"credentials": {"ambient": {}}}, exchanges=[role]))

    assert "sources.ambient" in tenant.is_refused("IdentityForbidden")
    assert aws.recent_calls() == []


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        pytest.param("theirs", {"target": {"secretName": "theirs"}}, id="as the target"),
        pytest.param("acme", {}, id="as the target by the name of the request"),
        pytest.param(
            "theirs",
            refreshing("https://id.example", saveTo={"secretName": "theirs"}),
            id="as what keeps a token",
        ),
        pytest.param(
            "license-keyturn",
            refreshing("https://id.example"),
            id="as what keeps a token by the name of its source",
        ),
        pytest.param("license", {"target": {"secretName": "license-2"}}, id="as the source"),
    ],
)
def test_a_secret_that_did_not_consent(tenant: Tenant, aws: Emulator, name: str, spec: dict[str, Any]) -> None:
    if name != "license":
        tenant.namespace.token("theirs", name=name, key="password")
    before = tenant.namespace.read("secret", name)
    tenant.create(token_request(**spec))
    until(lambda: any(tenant.namespace.condition("acme", "Renewed")))

    tenant.namespace.turns("acme", *(("Ready", "Issued") if name == "license" else ("Renewed", "TargetConflict")))
    assert tenant.namespace.read("secret", name) == before


@pytest.mark.parametrize(
    ("audience", "says"),
    [
        ("", "the API server itself takes tokens"),
        ("https://kubernetes.default.svc", "sources.audiences"),
        ("kubernetes", "sources.audiences"),
        ("vault", "sources.audiences"),
    ],
)
def test_a_token_for_the_api_server(tenant: Tenant, aws: Emulator, audience: str, says: str) -> None:
    wanted = {
        "name": "tenant",
        "audiences": ["sts.amazonaws.com", audience or own_audience(tenant.namespace.plane)],
    }
    role = {"assumeRoleWithWebIdentity": {"roleArn": ROLE}}
    written: dict[str, Any] = {"formats": [{"token": {}}]}
    tenant.create(token_request(source={"token": {"serviceAccount": wanted}}, exchanges=[role], target=written))

    assert says in tenant.is_refused("IdentityForbidden")
    assert tenant.namespace.read("secret", "acme") == {}
    assert aws.recent_calls() == []


def test_an_internal_address(tenant: Tenant) -> None:
    with listening() as (port, connected):
        urls = [url.format(port=port) for url in INTERNAL] + [f"{tenant.namespace.plane.url}/token"]
        for number, url in enumerate(urls):
            tenant.create(token_request(f"issuer-{number}", **refreshing(url)))

        told = {url: _message(tenant, f"issuer-{number}") for number, url in enumerate(urls)}

    assert [url for url, says in told.items() if not re.search("could not be reached|names no host", says)] == []
    assert connected == []


INTERNAL = [
    *("https://127.0.0.1:{port}", "https://localhost:{port}", "https://[::1]:{port}", "https://[::ffff:127.0.0.1]:{port}"),
    *("https://127.1:{port}", "https://2130706433:{port}", "https://0x7f000001:{port}", "https://0177.0.0.1:{port}"),
    *("https://0.0.0.0:{port}", "https://[::]:{port}", "https://localhost.:{port}", "https://LOCALHOST:{port}"),
    *("https://169.254.169.254/latest", "https://[fd00:ec2::254]/", "https://10.0.0.1/", "https://[fe80::1]/"),
]  # fmt: skip


def _message(tenant: Tenant, name: str) -> str:
    until(lambda: tenant.namespace.condition(name, "Renewed")[1] not in ("", "Pending"))
    return tenant.namespace.condition(name, "Renewed")[2]


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and who has connected to it."""
    connected: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                connected.append(str(address))
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], connected
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_the_document_begins_with_what_matters_most() -> None:
    title, _, text = DOCUMENT.partition("\n\n")

    assert title == "# Security"
    assert text.startswith("Whoever may create TokenRequests in a namespace may use its Secrets.")


def test_the_document_tells_the_rights_that_there_are() -> None:
    section = DOCUMENT.partition("## The rights of the operator")[2]
    told = {
        Right("", f"{group or ''}/{resource}/{part or ''}", verb)
        for group, resource, part, verbs in re.findall(
            r"^\| (?:`([a-z0-9.]+)` )?([a-z]+)(?:/([a-z]+))? \| ([a-z, ]+) \|", section, re.MULTILINE
        )
        for verb in verbs.split(", ")
        if verb != "verbs"
    }
    given = granted(chart_objects({"rbac": {"serviceAccountTokens": True}}, only=["rbac"]))

    assert told == {right._replace(namespace="") for right in given}


def test_the_tests_that_the_document_names_are_there() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_[a-z_]+)`", DOCUMENT)

    assert len(named) > 8
    assert [name for name in named if f"def {name}(" not in tests] == []
