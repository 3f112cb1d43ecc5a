"""The executable of the kubectl plugin: its environment."""

from collections.abc import Container

from tests.support.cases import cases
from tools.executable_entry import environment

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
