from pathlib import Path
from typing import Any

import jwt
import pytest

from keyturn.api.exchanges.oauth_client import ClientServiceAccountSpec
from keyturn.cli.kubectl.cluster import Cluster, ClusterError
from keyturn.cli.kubectl.login_command import create_token, store
from tests.support.cases import cases
from tests.support.kubectl import use_kubectl

API_SERVER = "https://kubernetes.default.svc"
# Like kubectl, it creates a token for the API server if there is no audience.
KUBECTL = """#!/bin/sh
case "$*" in *--audience=*) echo "token for $*" ;; *) echo {own} ;; esac
"""
APPLY = """#!/bin/sh
cd "$(dirname "$0")" && test -e available || { echo "connection refused" >&2; exit 1; }
cat > stored
"""


def create(audience: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    own = jwt.encode({"aud": audience}, "k" * 32) if audience else "opaque"
    use_kubectl(KUBECTL.format(own=own), directory, monkeypatch)
    return create_token(Cluster(), ClientServiceAccountSpec(name="app", audiences=("id.example", API_SERVER)))


@cases("audience", {"list": ["k3s", API_SERVER], "text": API_SERVER, "unknown": None})
def test_no_token_is_created_that_the_api_server_accepts(
    audience: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ClusterError, match=f"the API server itself accepts tokens for {API_SERVER},.* which would give"
    ):
        create(audience, tmp_path, monkeypatch)


def test_token_for_the_issuer_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = f"--audience=id.example --audience={API_SERVER}"

    assert create("k3s", tmp_path, monkeypatch) == f"token for create token app {flags}"


def test_result_of_a_sign_in_is_stored_after_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_kubectl(APPLY, tmp_path, monkeypatch)
    store(Cluster(), "planted", lambda _: (tmp_path / "available").touch())

    assert (tmp_path / "stored").read_text() == "planted"
    assert capsys.readouterr().err.startswith("not stored yet: connection refused; ")


def test_lost_result_of_a_sign_in_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    use_kubectl(APPLY, tmp_path, monkeypatch)
    with pytest.raises(ClusterError, match=r"lost; sign in again: connection refused"):
        store(Cluster(), "planted", waits.append)

    assert sum(waits) == 300
