"""Starts the kubectl plugin in the executable that tools.executable builds."""

import os
from collections.abc import Callable, Mapping

# Where Debian, Red Hat, SUSE and Apple keep the certificates that they trust. Go searches in the same files.
CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def environment(variables: Mapping[str, str], is_file: Callable[[str], bool]) -> dict[str, str]:
    """Return the environment of the plugin, and of kubectl, which the plugin runs.

    PyInstaller sets LD_LIBRARY_PATH to the libraries in the executable, which kubectl's login plugins must not load.
    The OpenSSL in the executable searches for certificates only where the build machine has them.
    """
    result = {name: value for name, value in variables.items() if not name.startswith("LD_LIBRARY_PATH")}
    if "LD_LIBRARY_PATH_ORIG" in variables:
        result["LD_LIBRARY_PATH"] = variables["LD_LIBRARY_PATH_ORIG"]
    certificates = next(filter(is_file, CERTIFICATES), "")
    if certificates and not result.keys() & {"SSL_CERT_FILE", "SSL_CERT_DIR"}:
        result["SSL_CERT_FILE"] = certificates
    return result


if __name__ == "__main__":
    changed = environment(os.environ, os.path.isfile)
    os.environ.clear()
    os.environ.update(changed)
    from keyturn.cli.kubectl import main

    main()
