import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.cli.kubectl.cluster import Cluster, ClusterError, cluster_error, objects_in_stream
from tests.support.kubectl import use_kubectl

NO_CRD = 'error: the server doesn\'t have a resource type "tokenrequests"\n'
RETRIES = (
    'E1122 22:00:00.000000 1 memcache.go:265] "Unhandled Error" err="no API group list"\n'
    "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n"
)
FORBIDDEN = (
    'Error from server (Forbidden): tokenrequests.keyturn.dev is forbidden: User "eve" cannot list resource'
    ' "tokenrequests" in API group "keyturn.dev" in the namespace "billing"\n'
)
# Writes more warnings than a pipe takes, one object, and an error.
FAILING_KUBECTL = """#!/bin/sh
seq 20000 | sed 's/^/Warning: /' >&2
printf '{\\n"kind": "A"\\n}\\n'
echo 'error: closed' >&2
exit 1
"""
PRINTING_KUBECTL = """#!/bin/sh
printf '{"arguments": "%s"}' "$*"
"""
TIMEOUT = "error: timed out waiting for the condition on tokenrequests/acme\n"


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        pytest.param(NO_CRD, "is Keyturn installed?", id="no CRD"),
        pytest.param(FORBIDDEN, "ask your cluster administrator for this permission", id="forbidden"),
        pytest.param(FORBIDDEN, 'User "eve" cannot list resource', id="forbidden, kubectl's own message"),
        pytest.param(RETRIES, "kubectl config current-context", id="no cluster"),
        pytest.param("Unable to connect to the server: EOF\n", "is this the right cluster?", id="connection closed"),
        pytest.param("error: You must be logged in to the server (Unauthorized)\n", "log in first", id="logged out"),
        pytest.param("Please enter Username: error: EOF\n", "log in first", id="login prompt"),
        pytest.param('error: context "x" does not exist\n', "kubectl config get-contexts", id="no such context"),
        pytest.param(TIMEOUT, "no operator has picked up the request", id="timeout"),
        pytest.param("Error: something new\n", "Error: something new", id="unknown"),
        pytest.param("", "kubectl failed", id="no output"),
    ],
)
def test_kubectl_error_includes_advice(stderr: str, message: str) -> None:
    error = cluster_error(stderr)

    assert message in error.message
    assert "\n" not in error.message
    assert "memcache" not in error.message


def test_missing_kubectl_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(ClusterError, match="kubectl was not found on the PATH"):
        Cluster().run("version")


def test_stream_is_split_into_objects() -> None:
    objects = [{"metadata": {"name": "a", "labels": {}}}, {"metadata": {"name": "b", "text": "}\n{"}}]
    stream = io.StringIO("".join(f"{json.dumps(body, indent=4)}\n" for body in objects))

    assert list(objects_in_stream(stream)) == objects


@pytest.fixture
def _sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_name_is_never_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_kubectl(PRINTING_KUBECTL, tmp_path, monkeypatch)

    assert Cluster(("--namespace=billing",)).get("secret", "--server=evil.example") == {
        "arguments": "--namespace=billing get secret --output=json -- --server=evil.example"
    }


@pytest.mark.usefixtures("_sigterm")
def test_watch_survives_many_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_kubectl(FAILING_KUBECTL, tmp_path, monkeypatch)
    objects = Cluster().watch("secret")

    assert next(objects) == {"kind": "A"}
    with pytest.raises(ClusterError, match=r"^closed$"):
        next(objects)
