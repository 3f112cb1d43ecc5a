from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import incluster_config

from keyturn.controller.app import load_configuration
from keyturn.controller.token_file import TokenFile
from keyturn.core.proxies import Proxies
from tests.support.cases import cases


async def bearer(configuration: Configuration) -> str:
    """Return the token that the next request has."""
    return str((await configuration.auth_settings())["BearerToken"]["value"])


def replace_token(path: Path) -> None:
    path.write_text("second\n")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The token file of a pod."""
    (tmp_path / "ca.crt").write_text("not parsed here")
    (tmp_path / "token").write_text("first")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    return tmp_path / "token"


async def test_token_is_read_again_although_the_clock_was_set_back(path: Path) -> None:
    seconds = 1000.0
    configuration = Configuration(api_key={"BearerToken": "Bearer first"})
    configuration.refresh_api_key_hook = TokenFile(str(path), "Bearer first", lambda: seconds).refresh  # type: ignore[assignment]
    assert await bearer(configuration) == "Bearer first"

    replace_token(path)
    seconds += 59
    before = await bearer(configuration)
    seconds += 1

    assert (before, await bearer(configuration)) == ("Bearer first", "Bearer second")


async def test_configuration_of_a_pod_does_not_depend_on_the_clock(path: Path) -> None:
    configuration = await load_configuration(None, Proxies())
    replace_token(path)

    assert await bearer(configuration) == "Bearer second"


@cases(
    "damage",
    {
        "no file": Path.unlink,
        "a directory": lambda path: (path.unlink(), path.mkdir()),
        "an empty file": lambda path: path.write_bytes(b""),
        "a line break": lambda path: path.write_bytes(b"\n"),
        "two lines": lambda path: path.write_bytes(b"a\nX-Remote-User: admin"),
        "not text": lambda path: path.write_bytes(b"\xff\xfe"),
    },
)
async def test_last_token_is_used_without_a_usable_file(path: Path, damage: Callable[[Path], object]) -> None:
    configuration = await load_configuration(None, Proxies())
    damage(path)

    assert (await bearer(configuration)).lower() == "bearer first"
