"""The API server accepts every example; each TokenRequest is issued and renewed with its documented AWS setup."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import examples
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.sources import USER_KEYS, caller_arn
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.examples import EXAMPLES, ExampleSetup
from tests.support.proxy import proxy_in_thread


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_api_server_accepts_the_example(namespace: Namespace, example: Path) -> None:
    shown = namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(example))

    assert "created (server dry run)" in shown


@pytest.fixture(scope="module")
def own_aws() -> Iterator[Emulator]:
    """A separate emulator: the examples change its issuer and applications."""
    with running_emulator(issuer_aliases=",".join(examples.ISSUER_ALIASES)) as aws:
        yield aws


@pytest.fixture(scope="module")
def operator(
    installed: ControlPlane, own_aws: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator with an ambient identity that trusts the issuer's CA and may create ServiceAccount tokens."""
    directory = tmp_path_factory.mktemp("examples")
    (directory / "ca.crt").write_text(own_aws.ca)
    installed.kubectl("create", "clusterrole", "token-creator", "--verb=create", "--resource=serviceaccounts/token")
    installed.kubectl("create", "clusterrolebinding", "token-creator", "--clusterrole=token-creator",
                      "--serviceaccount=keyturn:keyturn")  # fmt: skip
    with (
        pytest.MonkeyPatch.context() as patch,
        proxy_in_thread(dict.fromkeys(examples.ISSUER_HOSTS, own_aws.issuer_address)) as proxy,
    ):
        for name, value in {**USER_KEYS, "SSL_CERT_FILE": str(directory / "ca.crt")}.items():
            patch.setenv(name, value)
        with running_operator(installed, own_aws, directory, settings=examples.settings(proxy)) as operator:
            yield operator
            assert "internal error" not in operator.log()
    installed.kubectl("delete", "clusterrole,clusterrolebinding", "token-creator")


WITH_REQUEST = [example for example in EXAMPLES if examples.requests(example)]


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("example", WITH_REQUEST, ids=lambda path: path.stem)
def test_example_is_issued_and_renewed_twice(example: Path, own_aws: Emulator, namespace: Namespace) -> None:
    setup = ExampleSetup(namespace, own_aws)
    setup.create_roles(example)
    for name, data in setup.prepare(example).items():
        namespace.put_secret(name, data)
    objects = [body for body in yaml.safe_load_all(example.read_text()) if body["kind"] != "Pod"]
    namespace.apply(*objects)
    [request] = examples.requests(example)
    name = request["metadata"]["name"]
    namespace.wait_until_ready(name, timeout=30)
    secrets = [namespace.secret_data(namespace.status(name)["secretName"])]
    for revision in (2, 3):
        namespace.renew(revision, name)
        secrets.append(namespace.secret_data(namespace.status(name)["secretName"]))

    assert len({json.dumps(data, sort_keys=True) for data in secrets}) == 3
    assert all(caller_arn(data, own_aws) for data in secrets if "AWS_ACCESS_KEY_ID" in data)
    assert namespace.condition(name, "Renewed")[:2] == ("True", "Renewed")
    assert namespace.condition(name, "Stalled") == ("", "", "")
