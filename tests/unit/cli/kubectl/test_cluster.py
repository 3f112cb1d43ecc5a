"""What kubectl refuses is told in its words, with what to do about it."""

import io
import json

import pytest

from keyturn.cli.kubectl.cluster import Cluster, ClusterError, _objects, _refusal

NO_CRD = 'error: the server doesn\'t have a resource type "tokenrequests"\n'
TRIES = (
    'E1122 22:00:00.000000 1 memcache.go:265] "Unhandled Error" err="no API group list"\n'
    "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?\n"
)
FORBIDDEN = (
    'Error from server (Forbidden): tokenrequests.keyturn.dev is forbidden: User "eve" cannot list resource'
    ' "tokenrequests" in API group "keyturn.dev" in the namespace "billing"\n'
)


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        pytest.param(NO_CRD, "is Keyturn installed here?", id="no CRD"),
        pytest.param(FORBIDDEN, "ask who runs the cluster for that right", id="forbidden"),
        pytest.param(FORBIDDEN, 'User "eve" cannot list resource', id="forbidden, with kubectl's words"),
        pytest.param(TRIES, "kubectl config current-context", id="no cluster"),
        pytest.param("Unable to connect to the server: EOF\n", "is that the right cluster?", id="cut off"),
        pytest.param(
            "error: You must be logged in to the server (Unauthorized)\n",
            "log in first",
            id="logged out",
        ),
        pytest.param("Please enter Username: error: EOF\n", "log in first", id="asked who one is"),
        pytest.param('error: context "x" does not exist\n', "kubectl config get-contexts", id="no such context"),
        pytest.param(
            "error: timed out waiting for the condition on tokenrequests/acme\n",
            "does an operator work",
            id="timeout",
        ),
        pytest.param("Error: something new\n", "Error: something new", id="what nobody foresaw"),
        pytest.param("", "kubectl failed", id="nothing"),
    ],
)
def test_a_refusal_says_what_to_do(stderr: str, says: str) -> None:
    error = _refusal(stderr)

    assert says in error.message
    assert "\n" not in error.message
    assert "memcache" not in error.message


def test_without_kubectl_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(ClusterError, match="kubectl is not on the PATH"):
        Cluster().run("version")


def test_a_stream_of_objects_is_read_one_by_one() -> None:
    wanted = [{"metadata": {"name": "a", "labels": {}}}, {"metadata": {"name": "b", "text": "}\n{"}}]
    stream = io.StringIO("".join(f"{json.dumps(one, indent=4)}\n" for one in wanted))

    assert list(_objects(stream)) == wanted
