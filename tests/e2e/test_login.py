"""kubectl keyturn login on a real control plane, with a real OpenID provider and a user's own permissions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import npm
from tests.support.browser import use_browser
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.plugin import Plugin, user
from tests.support.issuer.server import Issuer, running_issuer

pytestmark = pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())
RIGHTS = ("get tokenrequests", "get,create,patch secrets")


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture
def browser(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser in which a person signs in."""
    use_browser(monkeypatch, tmp_path, issuer.ca, "demo-user", "secret")


def request(namespace: Namespace, issuer: Issuer, **spec: Any) -> None:
    """Create a TokenRequest whose source Secret does not exist yet."""
    namespace.put_secret("client", {"secret": issuer.client_secret, "ca": issuer.ca})
    source = {"token": {"secretKeyRef": {"name": "signed-in", "key": "refresh_token"}}}
    target: dict[str, Any] = {"formats": [{"token": {}}]}
    namespace.apply(
        token_request("app", source=source, exchanges=[issuer.refresh_step("client")], target=target, **spec)
    )


@pytest.mark.usefixtures("loopback_operator", "browser")
def test_person_signs_in_and_signs_in_again(namespace: Namespace, issuer: Issuer, tmp_path: Path) -> None:
    request(namespace, issuer)
    plugin = user(namespace, tmp_path, *RIGHTS)
    output = plugin.succeed("login", "app", "--yes")
    first = namespace.secret_data("signed-in")["refresh_token"]

    assert output.startswith("Secret signed-in written\napp: renewed, valid until ")
    assert namespace.condition("app", "Ready")[0] == "True"
    assert namespace.get("secret", "signed-in")["metadata"]["labels"] == {"keyturn.dev/source": "true"}

    # As after the end of a session: the token that Keyturn has stored is void.
    namespace.kubectl("annotate", "secret", "signed-in", "team=payments")
    plugin.succeed("login", "app", "--yes")
    second = namespace.secret_data("signed-in")["refresh_token"]

    assert second != first
    assert namespace.get("secret", "signed-in")["metadata"]["annotations"] == {"team": "payments"}
    assert namespace.revision("app") == 2
    assert not any(token in plugin.all_output for token in (first, second))


@pytest.mark.usefixtures("loopback_operator", "browser")
def test_missing_permission_is_reported_before_the_sign_in(
    namespace: Namespace, issuer: Issuer, tmp_path: Path
) -> None:
    request(namespace, issuer)
    errors = user(namespace, tmp_path, "get tokenrequests", "get secrets").fail("login", "app", "--yes")

    assert "cannot patch resource" in errors
    assert "ask your cluster administrator" in errors
    assert "Sign in on this page" not in errors


@pytest.mark.usefixtures("loopback_operator", "browser")
def test_suspended_request_is_not_renewed(namespace: Namespace, issuer: Issuer, tmp_path: Path) -> None:
    request(namespace, issuer, suspend=True)
    plugin = Plugin(namespace, tmp_path, namespace.plane.kubeconfig)

    assert plugin.succeed("login", "app", "--yes") == "Secret signed-in written\n"
    assert "app is suspended" in plugin.all_output
