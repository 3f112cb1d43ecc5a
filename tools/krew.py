"""The manifest with which krew, kubectl's plugin manager, installs the plugin from the archives of a release."""

from collections.abc import Mapping
from typing import Any

import yaml

from tools.executable import archive_name


def manifest(sums: Mapping[str, str], home: str, version: str) -> str:
    """Return the manifest as YAML. `sums` has the SHA-256 checksum of the archive for each platform."""
    directory = f"{home}/releases/download/v{version}"
    spec = {
        "version": f"v{version}",
        "homepage": home,
        "shortDescription": "Inspect and renew short-lived AWS credentials",
        "description": "Keyturn is an operator that keeps short-lived AWS credentials in Secrets fresh. The plugin"
        " shows, renews and checks its TokenRequests, and signs in for them.",
        "platforms": [_platform(name, directory, sha256) for name, sha256 in sums.items()],
    }
    header = {"apiVersion": "krew.googlecontainertools.github.com/v1alpha2", "kind": "Plugin"}
    return yaml.safe_dump(header | {"metadata": {"name": "keyturn"}, "spec": spec}, sort_keys=False, width=1000)


def _platform(name: str, directory: str, sha256: str) -> dict[str, Any]:
    system, architecture = name.split("-")
    return {
        "selector": {"matchLabels": {"os": system, "arch": architecture}},
        "uri": f"{directory}/{archive_name(name)}",
        "sha256": sha256,
        "bin": "kubectl-keyturn.exe" if system == "windows" else "kubectl-keyturn",
    }
