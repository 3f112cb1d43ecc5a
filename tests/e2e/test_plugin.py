"""kubectl keyturn on the real control plane, found by the real kubectl on its PATH."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_crd import CRD, install
from tests.e2e.test_rotation import rotating_request, sign_in
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.plugin import Plugin
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

DOC = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
TIME = r"[0-9-]{10}T[0-9:]{8}Z"


@pytest.fixture(scope="module")
def shared_operator(loopback_operator: Operator) -> Operator:
    """One that may speak to issuers on loopback."""
    return loopback_operator


@pytest.fixture
def plugin(namespace: Namespace, tmp_path: Path) -> Plugin:
    """The plugin of an administrator."""
    return Plugin(namespace, tmp_path, namespace.plane.kubeconfig)


def user(namespace: Namespace, directory: Path, *rights: str) -> Plugin:
    """The plugin of somebody with these rights in the namespace: verbs and resources, as in `get,list secrets`."""
    namespace.kubectl("create", "serviceaccount", "somebody")
    for number, right in enumerate(rights):
        verbs, resource = right.split()
        namespace.kubectl("create", "role", f"r{number}", f"--verb={verbs}", f"--resource={resource}")
        namespace.kubectl("create", "rolebinding", f"r{number}", f"--role=r{number}",
                          f"--serviceaccount={namespace.name}:somebody")  # fmt: skip
    return Plugin(namespace, directory, namespace.plane.service_account_kubeconfig(namespace.name, "somebody"))


def test_status_of_a_good_one(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issued(aws)
    told = plugin.good("status", "acme")

    assert f"TokenRequest {namespace.name}/acme\n  Ready       True Issued: Secret acme is valid until" in told
    assert "-> assumeRoleWithWebIdentity arn:aws:iam::111122223333:role/LicenseConsumer (us-east-1)" in told
    assert re.search(rf"  Expires     {TIME} \(in 59 min\)\n", told)
    assert re.search(rf"  Renews      {TIME} \(in 3[3-9] min\)\n", told)


def test_status_of_many_is_a_table(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    namespace.issued(aws)
    namespace.apply(token_request("waits", source={"token": {"secretKeyRef": {"name": "none", "key": "none"}}}))
    namespace.turns("waits", "Renewed", "SourceMissing")
    head, acme, waits = plugin.good("status").splitlines()

    assert head.split()[:3] == ["NAME", "READY", "REASON"]
    assert acme.split()[:3] == ["acme", "True", "Issued"]
    assert waits.split()[:3] == ["waits", "False", "SourceMissing"]
    everywhere = plugin.kubectl("keyturn", "status", "-A").out
    assert re.search(rf"^NAMESPACE .*\n(.*\n)*{namespace.name} +acme +True", everywhere)


@pytest.mark.parametrize(
    ("spec", "condition", "says"),
    [
        pytest.param(
            {"source": {"token": {"secretKeyRef": {"name": "none", "key": "none"}}}},
            ("Renewed", "SourceMissing"),
            "  Next try    ",
            id="failing",
        ),
        pytest.param(
            {
                "exchanges": [
                    {"licenseManagerGetAccessToken": {}},
                    {"assumeRoleWithWebIdentity": {"roleArn": "arn:aws:iam::111122223333:role/None"}},
                ]
            },
            ("Renewed", "AccessDenied"),
            "  Stalled     True AccessDenied: ",
            id="stalled",
        ),
        pytest.param(
            {"suspend": True}, ("Ready", "Suspended"), "  Note        spec.suspend is set", id="suspended"
        ),
    ],
)
@pytest.mark.usefixtures("operator")
def test_status_of_what_is_not_good(
    aws: Emulator,
    namespace: Namespace,
    plugin: Plugin,
    spec: dict[str, Any],
    condition: tuple[str, str],
    says: str,
) -> None:
    namespace.token(aws.refresh_token())
    namespace.apply(token_request(**spec))
    namespace.turns("acme", *condition)
    told = plugin.good("status", "acme")

    assert says in told
    assert f"see docs/operations/troubleshooting.md#{condition[1].lower()}" in told


def test_status_for_programs(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issued(aws)
    one = json.loads(plugin.good("status", "acme", "-o", "json"))

    assert (one["name"], one["status"]["secretName"], len(one["pipeline"])) == ("acme", "acme", 4)
    assert yaml.safe_load(plugin.good("status", "acme", "-o", "yaml")) == one
    assert json.loads(plugin.good("status", "-o", "json")) == [one]


def test_watch_shows_each_change(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issued(aws)

    with plugin.watching("status", "--watch") as rows:
        assert next(rows).split()[1:4] == ["acme", "True", "Issued"]
        namespace.ask("acme", "now")
        assert any(row.split()[3] == "Renewed" for row in rows)
    with plugin.watching("status", "acme", "--watch", "-o", "json") as objects:
        assert json.loads(next(objects))["status"]["revision"] == 2


def test_one_that_is_not_there(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issued(aws, "acme-billing")
    other = Namespace.created(namespace.plane)
    other.apply(token_request("only-there", suspend=True))

    assert "did you mean acme-billing?" in plugin.bad("status", "acme-biling")
    assert f"there is one in namespace {other.name}" in plugin.bad("status", "only-there")
    assert "-n chooses another namespace" in plugin.bad("renew", "nowhere")
    other.kubectl("delete", "treq", "--all")


def test_renew_waits_until_it_is_done(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    namespace.issued(aws)
    namespace.apply(token_request("second"), token_request("asleep", suspend=True))
    namespace.is_ready("second")

    assert re.fullmatch(rf"acme: renewed, valid until {TIME}\n", plugin.good("renew", "acme", "--wait"))
    assert namespace.status("acme")["revision"] == 2
    assert plugin.good("renew", "--all", "--wait").count("renewed, valid until") == 2
    assert "spec.suspend is set" in plugin.bad("renew", "asleep")


def test_renew_tells_why_it_failed(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    namespace.issued(aws)
    namespace.kubectl("delete", "secret", "license")

    assert plugin.good("renew", "acme") == "asked for: acme\n"
    said = plugin.bad("renew", "acme", "--wait")
    assert "acme: Secret license does not exist; next try at " in said
    assert "docs/operations/troubleshooting.md#sourcemissing" in said


def test_renew_does_not_wait_for_ever(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    namespace.issued(aws)
    operator.freeze()
    try:
        said = plugin.bad("renew", "acme", "--wait", "--timeout=1")
    finally:
        operator.thaw()

    assert "does an operator work in this namespace?" in said


def test_inspect_tells_whose_a_secret_is(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    namespace.issued(aws)
    told = plugin.good("inspect", "acme")

    assert "  Written by  TokenRequest acme, which is there\n  Data        as issued\n" in told
    assert "  Principal   arn:aws:sts::111122223333:assumed-role/LicenseConsumer/" in told
    assert re.search(r"^  AWS_SECRET_ACCESS_KEY +[0-9]+ B  env$", told, re.MULTILINE)
    assert "Read by     TokenRequest acme" in plugin.good("inspect", "license")
    assert "did you mean" in plugin.bad("inspect", "acm")


def test_inspect_sees_an_edit(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issued(aws)
    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.turns("acme", "Ready", "Suspended")
    namespace.patch("secret", "acme", {"stringData": {"AWS_REGION": "eu-west-9"}})

    assert "edited since" in plugin.good("inspect", "acme")


def test_forget_shows_what_it_means_and_asks(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    told = plugin("forget", "source-keyturn", stdin="n\n")

    assert (told.code, "Aborted" in told.err) == (1, True)
    assert "Secret source shows a SPENT token" in told.out
    assert namespace.read("secret", "source-keyturn")
    assert "is no token Secret" in plugin.bad("forget", "source", "--yes")


def test_forget_and_sign_in_again(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    sign_in(namespace, aws)
    namespace.apply(rotating_request(aws))
    namespace.is_ready("acme")
    assert "  Shows       the live token\n" in plugin.good("inspect", "source-keyturn")
    assert "Used by     TokenRequest acme" in plugin.good("inspect", "source-keyturn")

    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    plugin.good("forget", "source-keyturn", "--yes")
    assert not namespace.read("secret", "source-keyturn")
    fresh = aws.oauth_refresh_token()
    namespace.token(fresh, name="source", key="refresh_token")
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})

    plugin.good("renew", "acme", "--wait")
    assert len(aws.family(fresh).consumed) >= 1
    assert aws.family(fresh).reuses == 0


def test_no_value_is_ever_shown(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, "rotates"))
    namespace.is_ready("rotates")
    namespace.issued(aws)
    secrets = ("acme", "license", "source", "source-keyturn", "client", "rotates")
    for output in ("text", "yaml"):
        plugin.good("status", "acme", "-o", output)
    for name in secrets:
        plugin.good("inspect", name)
    plugin.good("forget", "source-keyturn", "--yes")
    plugin.good("renew", "acme", "--wait")
    kept = (namespace.data(name) for name in secrets if name != "source-keyturn")
    planted = {*aws.secrets(), *(value for data in kept for value in data.values())}
    shown = {"us-east-1", namespace.data("acme")["expiration"], namespace.data("rotates")["expiration"]}

    assert len(planted - shown) > 10
    assert [value[:8] for value in planted - shown if value in plugin.everything] == []


def test_who_may_not_is_told_so(operator: Operator, namespace: Namespace, tmp_path: Path) -> None:
    somebody = user(namespace, tmp_path, "get,list tokenrequests.keyturn.dev")
    namespace.apply(token_request(suspend=False))
    namespace.turns("acme", "Renewed", "SourceMissing")

    assert "SourceMissing" in somebody.good("status", "acme")
    said = somebody.bad("renew", "acme")
    assert "cannot patch resource" in said
    assert "ask who runs the cluster for that right" in said
    assert "cannot get resource" in somebody.bad("inspect", "acme")


def test_a_cluster_that_is_not_there(plugin: Plugin, tmp_path: Path) -> None:
    context = {"cluster": "c", "user": "u"}
    (tmp_path / "config").write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "contexts": [{"name": "x", "context": context}], "users": [{"name": "u", "user": {"token": "t"}}],
    }))  # fmt: skip

    assert "is that the right cluster?" in plugin.bad("status", f"--kubeconfig={tmp_path / 'config'}")
    assert "kubectl config get-contexts" in plugin.bad("status", "--context=nowhere")


def test_kubectl_completes_names(operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issued(aws, "acme-billing")

    def completed(*words: str) -> list[str]:
        return plugin.kubectl("__complete", "keyturn", *words).out.splitlines()[:-1]

    assert completed("st") == ["status\tShow how TokenRequests are, and what they..."]
    assert completed("status", "-n", namespace.name, "ac") == ["acme-billing"]
    assert completed("inspect", "--namespace", namespace.name, "lic") == ["license"]


def test_status_takes_half_a_second(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    namespace.issued(aws)

    # Of CPU, for others may be busy too: 0.3 on two cores, and as much by the clock where nobody else is.
    assert min(plugin("status", "acme").seconds for _ in range(5)) < 0.5


def test_the_page_shows_commands_that_work(
    operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin
) -> None:
    sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, "portal"))
    namespace.issued(aws, "acme-billing", secret="acme-billing-aws")
    namespace.is_ready("portal")
    block = re.search(r"```sh\n(kubectl keyturn.*?)```", DOC.read_text(), re.DOTALL)
    assert block
    commands = [shlex.split(line, comments=True)[2:] for line in block[1].splitlines()]

    assert {words[0] for words in commands} == {"status", "renew", "inspect", "check", "forget"}
    for words in commands:
        if words[0] == "check":
            assert plugin.kubectl("keyturn", *words).code == 0
        elif "--watch" not in words:
            plugin.good(*words)


def test_a_cluster_without_keyturn(installed: ControlPlane, plugin: Plugin) -> None:
    installed.kubectl("delete", CRD, "--timeout=60s")
    try:
        until(lambda: "is Keyturn installed here?" in plugin("status").err)
        assert "is Keyturn installed here?" in plugin.bad("status", "acme")
    finally:
        install(installed)
