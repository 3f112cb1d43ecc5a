"""kubectl keyturn on a real control plane, run by kubectl."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from keyturn.api.exchanges.oauth_client import ClientServiceAccountSpec
from keyturn.cli.kubectl import COMMANDS
from keyturn.cli.kubectl.cluster import Cluster, ClusterError
from keyturn.cli.kubectl.login_command import create_token
from keyturn.core.token_times import jwt_claims
from tests.support.cluster.crd import CRD, install_crd
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.plugin import Plugin, user
from tests.support.cluster.rotating_source import issue_rotating, rotating_request, sign_in
from tests.support.controlplane import ControlPlane, binary
from tests.support.emulator.client import Emulator
from tests.support.json_schema import load_valid
from tests.support.processes import until

DOC = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
TIME = r"[0-9-]{10}T[0-9:]{8}Z"


@pytest.fixture
def plugin(loopback_operator: Operator, aws: Emulator, namespace: Namespace, tmp_path: Path) -> Plugin:
    return Plugin(namespace, tmp_path, namespace.plane.kubeconfig)


def test_status_without_a_name_is_a_table(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    namespace.apply(token_request("waits", source={"token": {"secretKeyRef": {"name": "none", "key": "none"}}}))
    namespace.wait_for_condition("waits", "Renewed", "SourceNotFound")
    header, acme, waits = plugin.succeed("status").splitlines()

    assert header.split()[:3] == ["NAME", "READY", "REASON"]
    assert acme.split()[:3] == ["acme", "True", "Issued"]
    assert waits.split()[:3] == ["waits", "False", "SourceNotFound"]
    all_namespaces = plugin.kubectl("keyturn", "status", "-A").out
    assert re.search(rf"^NAMESPACE .*\n(.*\n)*{namespace.name} +acme +True", all_namespaces)


def test_status_is_available_as_json_and_yaml(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    view = load_valid("status", plugin.succeed("status", "acme", "-o", "json"))

    assert (view["name"], view["status"]["secretName"], len(view["pipeline"])) == ("acme", "acme", 4)
    assert yaml.safe_load(plugin.succeed("status", "acme", "-o", "yaml")) == view
    assert load_valid("status", plugin.succeed("status", "-o", "json")) == [view]
    load_valid("doctor", plugin.succeed("doctor", "-o", "json"))


def test_watch_shows_each_change(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)

    with plugin.watching("status", "--watch") as rows:
        assert next(rows).split()[:3] == ["TIME", "NAME", "READY"]
        assert next(rows).split()[1:4] == ["acme", "True", "Issued"]
        namespace.request_renewal("acme", "now")
        assert any(row.split()[3] == "Renewed" for row in rows)
    with plugin.watching("status", "acme", "--watch", "-o", "json") as objects:
        assert load_valid("status", next(objects))["status"]["revision"] == 2


def test_requests_are_selected_as_with_kubectl(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    namespace.issue(aws, "other")
    namespace.kubectl("label", "treq", "acme", "team=shop")

    assert plugin.succeed("status", "-l", "team=shop", "-o", "name") == "tokenrequests.keyturn.dev/acme\n"
    assert [row.split()[0] for row in plugin.succeed("status", "treq/acme", "other").splitlines()[1:]] == [
        "acme",
        "other",
    ]
    assert plugin.succeed("suspend", "tokenrequests.keyturn.dev/acme") == "acme: suspended\n"
    assert plugin.succeed("resume", "-l", "team=shop") == "acme: resumed\n"
    before_the_command = plugin.kubectl("keyturn", "--namespace", namespace.name, "status", "-o", "name")
    assert len(before_the_command.out.splitlines()) == 2


def test_missing_request_has_a_suggestion(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws, "acme-billing")
    other = Namespace.create(namespace.plane)
    other.apply(token_request("only-there", suspend=True))

    assert "did you mean acme-billing?" in plugin.fail("status", "acme-biling")
    assert f"it exists in namespace {other.name}" in plugin.fail("status", "only-there")
    assert "-n selects another namespace" in plugin.fail("renew", "nowhere")
    other.kubectl("delete", "treq", "--all")


def test_renew_wait_ends_after_the_renewal(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    namespace.apply(token_request("second"), token_request("suspended", suspend=True))
    namespace.wait_until_ready("second")

    assert re.fullmatch(rf"acme: renewed, valid until {TIME}\n", plugin.succeed("renew", "acme", "--wait"))
    assert namespace.status("acme")["revision"] == 2
    assert plugin.succeed("renew", "--all", "--wait").count("renewed, valid until") == 2
    assert "run `kubectl keyturn resume suspended` first" in plugin.fail("renew", "suspended")


def test_renew_wait_reports_the_failure(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    namespace.kubectl("delete", "secret", "license")

    assert plugin.succeed("renew", "acme") == "renewal requested: acme\n"
    assert "acme: Secret license does not exist" in plugin.fail("renew", "acme", "--wait")
    assert "token: key license_token of Secret license  <-- failed: SourceNotFound" in plugin.succeed("status", "acme")


def test_renew_wait_times_out(loopback_operator: Operator, aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    loopback_operator.freeze()
    try:
        error = plugin.fail("renew", "acme", "--wait", "--timeout=1")
    finally:
        loopback_operator.thaw()

    assert "no operator has picked up the request" in error


def test_inspect_describes_a_target(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    output = plugin.succeed("inspect", "acme")

    assert "  Written by      TokenRequest acme, which still exists\n" in output
    assert "  Data            as issued\n" in output
    assert "  Principal       arn:aws:sts::111122223333:assumed-role/LicenseConsumer/" in output
    assert re.search(r"^  AWS_SECRET_ACCESS_KEY +[0-9]+ B  env$", output, re.MULTILINE)
    assert "Read by         TokenRequest acme" in plugin.succeed("inspect", "license")
    assert "did you mean" in plugin.fail("inspect", "acm")
    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    namespace.wait_for_condition("acme", "Ready", "Suspended")
    namespace.patch("secret", "acme", {"stringData": {"AWS_REGION": "eu-west-9"}})
    assert "(DriftDetected)" in plugin.succeed("inspect", "acme")


def test_forget_explains_and_asks(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    issue_rotating(namespace, aws)
    result = plugin("forget", "source-keyturn", stdin="n\n")

    assert (result.code, "Aborted" in result.err) == (1, True)
    assert "Secret source contains a CONSUMED token" in result.out
    assert namespace.get("secret", "source-keyturn")
    assert "is not a Keyturn token Secret" in plugin.fail("forget", "source", "--yes")


def test_forget_starts_from_the_new_source(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    issue_rotating(namespace, aws)
    output = plugin.succeed("inspect", "source-keyturn")
    assert "  Contains        the live token\n" in output
    assert "Used by         TokenRequest acme" in output

    namespace.patch("treq", "acme", {"spec": {"suspend": True}})
    plugin.succeed("forget", "source-keyturn", "--yes")
    assert not namespace.get("secret", "source-keyturn")
    token = aws.oauth_refresh_token()
    namespace.put_token(token, name="source", key="refresh_token")
    namespace.patch("treq", "acme", {"spec": {"suspend": False}})

    plugin.succeed("renew", "acme", "--wait")
    assert len(aws.family(token).consumed) >= 1
    assert aws.family(token).reuses == 0


def test_no_command_shows_a_secret_value(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    issue_rotating(namespace, aws, "rotates")
    namespace.issue(aws)
    secrets = ("acme", "license", "source", "source-keyturn", "client", "rotates")
    for output in ("text", "yaml"):
        plugin.succeed("status", "acme", "-o", output)
    for name in secrets:
        plugin.succeed("inspect", name)
    plugin.succeed("forget", "source-keyturn", "--yes")
    plugin.succeed("renew", "acme", "--wait")
    data = [namespace.secret_data(name) for name in secrets if name != "source-keyturn"]
    public = {"us-east-1", *(keys["expiration"] for keys in data if "expiration" in keys)}
    values = {*aws.secrets(), *(value for keys in data for value in keys.values())} - public

    assert len(values) > 10
    assert [value[:8] for value in values if value in plugin.all_output] == []


def test_missing_rights_are_reported(namespace: Namespace, tmp_path: Path) -> None:
    plugin = user(namespace, tmp_path, "get,list tokenrequests.keyturn.dev")
    namespace.apply(token_request(suspend=False))
    namespace.wait_for_condition("acme", "Renewed", "SourceNotFound")

    assert "SourceNotFound" in plugin.succeed("status", "acme")
    error = plugin.fail("renew", "acme")
    assert "cannot patch resource" in error
    assert "ask your cluster administrator for this permission" in error
    assert "cannot get resource" in plugin.fail("inspect", "acme")


def test_unreachable_cluster_is_reported(plugin: Plugin, tmp_path: Path) -> None:
    context = {"cluster": "c", "user": "u"}
    (tmp_path / "config").write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "contexts": [{"name": "x", "context": context}], "users": [{"name": "u", "user": {"token": "t"}}],
    }))  # fmt: skip

    assert "is this the right cluster?" in plugin.fail("status", f"--kubeconfig={tmp_path / 'config'}")
    assert "kubectl config get-contexts" in plugin.fail("status", "--context=nowhere")


def test_kubectl_completes_commands_and_names(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws, "acme-billing")

    def completions(*words: str) -> list[str]:
        return plugin.kubectl("__complete", "keyturn", *words).out.splitlines()[:-1]

    assert completions("st") == ["status\tShow the status of TokenRequests."]
    assert completions("status", "-n", namespace.name, "ac") == ["acme-billing"]
    assert completions("inspect", "--namespace", namespace.name, "lic") == ["license"]


def test_status_takes_half_a_second(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)

    # CPU time, because the machine may be busy. Measured: 0.3 s on two cores.
    assert min(plugin("status", "acme").cpu_seconds for _ in range(5)) < 0.5


def test_examples_work(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    sign_in(namespace, aws)
    namespace.put_token(aws.oauth_refresh_token(), name="acme-license", key="refresh_token")
    source = {"token": {"secretKeyRef": {"name": "acme-license", "key": "refresh_token"}}}
    namespace.apply(rotating_request(aws, "portal", source=source))
    namespace.issue(aws, secret="acme-aws")
    namespace.kubectl("label", "treq", "acme", "team=shop")
    namespace.wait_until_ready("portal")
    blocks = re.findall(r"```sh\n(.*?)```", DOC.read_text(), re.DOTALL)
    examples = re.findall(r"^kubectl keyturn (.*)$", "".join(blocks), re.MULTILINE)

    assert {example.split()[0] for example in examples} == set(COMMANDS) - {"check"}
    for example in examples:
        words = shlex.split(example, comments=True)
        if words[0] == "explain":
            assert plugin.kubectl("keyturn", *words).code == 0
        # test_login.py runs `login` with an issuer.
        elif words[0] != "login" and "--watch" not in words:
            result = plugin(*words, stdin="y\n")
            assert result.code == 0, (example, result.err)


def test_cluster_without_the_crd_is_reported(installed: ControlPlane, plugin: Plugin) -> None:
    installed.kubectl("delete", CRD, "--timeout=60s")
    try:
        until(lambda: "is Keyturn installed?" in plugin("status").err)
        assert "is Keyturn installed?" in plugin.fail("status", "acme")
    finally:
        install_crd(installed)


def test_suspended_request_is_renewed_after_it_is_resumed(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)

    assert plugin.succeed("suspend", "acme") == "acme: suspended\n"
    namespace.wait_for_condition("acme", "Ready", "Suspended")
    assert plugin.succeed("suspend", "--all") == "acme: already suspended\n"
    assert plugin.succeed("resume", "acme") == "acme: resumed\n"
    namespace.wait_for_condition("acme", "Ready", "Issued")
    assert "did you mean acme?" in plugin.fail("suspend", "acm")


def test_events_of_a_request_are_shown(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    header, *events = plugin.succeed("events", "acme").splitlines()

    assert header.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert any("tokenrequest/acme" in event.lower() for event in events)
    assert "did you mean acme?" in plugin.fail("events", "acm")


def test_doctor_names_the_operator_and_what_is_not_ready(aws: Emulator, namespace: Namespace, plugin: Plugin) -> None:
    namespace.issue(aws)
    healthy = plugin.succeed("doctor")
    namespace.apply(token_request("waits", source={"token": {"secretKeyRef": {"name": "none", "key": "none"}}}))
    namespace.wait_for_condition("waits", "Renewed", "SourceNotFound")

    assert re.search(r"(?m)^ok       installation \S+ renews in (all namespaces|namespace )", healthy)
    assert "ok       the CRD tokenrequests.keyturn.dev is that of version" in healthy
    assert "ok       this machine's clock agrees with the API server's" in healthy
    assert "error" not in healthy
    command = f"kubectl keyturn status waits --namespace={namespace.name}"
    message = f"warning  1 of 2 TokenRequests in this namespace are not Ready; run: {command}"
    assert message in plugin.succeed("doctor")


@pytest.mark.usefixtures("loopback_operator")
def test_doctor_reports_what_a_user_may_not_read(namespace: Namespace, tmp_path: Path) -> None:
    output = user(namespace, tmp_path, "get,list tokenrequests").succeed("doctor")

    assert "warning  not checked: " in output
    assert "deployments.apps is forbidden: User" in output
    assert "warning  you may not patch tokenrequests.keyturn.dev in this namespace" in output
    assert "ok       all 0 TokenRequests in this namespace are Ready" in output


def test_version_shows_the_operators(namespace: Namespace, plugin: Plugin) -> None:
    labels = {"app.kubernetes.io/name": "keyturn", "app.kubernetes.io/version": "9.8.7"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "operator", "image": "keyturn"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "keyturn", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }
    namespace.apply(deployment)

    output = plugin.succeed("version")
    assert re.match(r"Client: [0-9.]+\n", output)
    assert f"Operator {namespace.name}/keyturn: 9.8.7\n" in output
    versions = load_valid("version", plugin.succeed("version", "-o", "json"))
    assert "9.8.7" in [operator["version"] for operator in versions["operators"]]


def test_login_creates_no_token_for_the_api_server(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{binary('kubectl').parent}{os.pathsep}{os.environ['PATH']}")
    cluster = Cluster((f"--kubeconfig={namespace.plane.kubeconfig}", f"--namespace={namespace.name}"))
    namespace.kubectl("create", "serviceaccount", "client")
    [own] = (jwt_claims(namespace.kubectl("create", "token", "client").strip()) or {})["aud"]
    account = ClientServiceAccountSpec(name="client", audiences=("id.example",))

    assert (jwt_claims(create_token(cluster, account)) or {})["aud"] == ["id.example"]
    with pytest.raises(ClusterError, match="the API server itself accepts tokens for"):
        create_token(cluster, replace(account, audiences=("id.example", own)))
