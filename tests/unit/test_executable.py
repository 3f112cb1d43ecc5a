"""The executable of the kubectl plugin: its environment, and its manifest for krew."""

from collections.abc import Container

import yaml

from tests.support.cases import cases
from tools import krew
from tools.executable import PLATFORMS
from tools.executable_entry import environment

HOME = "https://git.example.com/keyturn"
DEBIAN, REDHAT = "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"


@cases(
    "variables, files, result",
    {
        "libraries of the executable": ({"LD_LIBRARY_PATH": "/x"}, (), {}),
        "libraries of the user": (
            {"LD_LIBRARY_PATH": "/x", "LD_LIBRARY_PATH_ORIG": "/l"},
            (),
            {"LD_LIBRARY_PATH": "/l"},
        ),
        "Red Hat": ({}, (REDHAT,), {"SSL_CERT_FILE": REDHAT}),
        "Debian with the file of Red Hat": ({}, (REDHAT, DEBIAN), {"SSL_CERT_FILE": DEBIAN}),
        "certificates of the user": ({"SSL_CERT_DIR": "/ca"}, (DEBIAN,), {"SSL_CERT_DIR": "/ca"}),
    },
)
def test_environment_is_that_of_the_machine(
    variables: dict[str, str], files: Container[str], result: dict[str, str]
) -> None:
    assert environment({"PATH": "/bin", **variables}, files.__contains__) == {"PATH": "/bin", **result}


def test_manifest_has_the_archive_of_each_platform() -> None:
    sums = {name: str(number) * 64 for number, name in enumerate(PLATFORMS)}
    manifest = yaml.safe_load(krew.manifest(sums, HOME, "1.2.3"))
    spec = manifest["spec"]

    assert (manifest["apiVersion"], manifest["kind"]) == ("krew.googlecontainertools.github.com/v1alpha2", "Plugin")
    assert (manifest["metadata"]["name"], spec["version"], spec["homepage"]) == ("keyturn", "v1.2.3", HOME)
    assert [platform["bin"] for platform in spec["platforms"][:-1]] == ["kubectl-keyturn"] * 4
    assert spec["platforms"][-1] == {
        "selector": {"matchLabels": {"os": "windows", "arch": "amd64"}},
        "uri": f"{HOME}/releases/download/v1.2.3/kubectl-keyturn-windows-amd64.tar.gz",
        "sha256": "4" * 64,
        "bin": "kubectl-keyturn.exe",
    }
