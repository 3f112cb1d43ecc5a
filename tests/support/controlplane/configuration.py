"""What the servers of a control plane are told: ports, flags, keys and the administrator's token."""

import json
import secrets
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.controlplane.cluster import write_private_file

LOOPBACK = "127.0.0.1"
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "clusterrole-aggregation-controller",
)


def free_ports() -> tuple[int, int, int]:
    """Find three ports that are free at once: for the API server, and for etcd's clients and peers."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(3)]
        api, clients, peers = (listener.getsockname()[1] for listener in found)
        return api, clients, peers


@dataclass(frozen=True, slots=True)
class Configuration:
    """One control plane's: all its files are in `directory`."""

    directory: Path
    address: str = LOOPBACK  # where the API server listens
    ports: tuple[int, int, int] = field(default_factory=free_ports)
    token: str = field(default_factory=secrets.token_urlsafe, repr=False)

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.ports[0]}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    @property
    def ca_file(self) -> Path:
        return self.directory / "certificates" / "apiserver.crt"  # the API server writes it, with its own CA

    def write(self) -> None:
        """Write the files that the servers and the administrator read."""
        write_private_file(self._users, f"{self.token},admin,admin,system:masters\n")
        # RSA, as clusters have it: an identity provider may take nothing but RS256.
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private_file(self._signing_key, pem.decode())
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "x", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}
            ],
            "users": [{"name": "x", "user": {"token": self.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        write_private_file(self.kubeconfig, json.dumps(config))

    def flags(self) -> dict[str, list[str]]:
        """List the flags of each server, in the order in which they need each other."""
        _, clients, peers = (f"http://{LOOPBACK}:{port}" for port in self.ports)
        return {
            "etcd": [
                f"--data-dir={self.directory / 'etcd'}",
                f"--listen-client-urls={clients}",
                f"--advertise-client-urls={clients}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",
                "--log-level=error",
            ],
            "kube-apiserver": [
                f"--etcd-servers={clients}",
                f"--bind-address={self.address}",
                f"--advertise-address={self.address}",  # else a machine without a network has none to offer
                "--endpoint-reconciler-type=none",  # and the reconciler accepts no loopback address
                f"--secure-port={self.ports[0]}",
                f"--cert-dir={self.ca_file.parent}",
                f"--service-account-issuer={self.url}",
                f"--service-account-key-file={self._signing_key}",
                f"--service-account-signing-key-file={self._signing_key}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--authorization-mode=RBAC",
                f"--token-auth-file={self._users}",
                "--disable-admission-plugins=ServiceAccount",  # pods need no token that nobody mounts
                "--allow-privileged=true",
            ],
            "kube-controller-manager": [
                f"--kubeconfig={self.kubeconfig}",
                f"--service-account-private-key-file={self._signing_key}",
                "--leader-elect=false",
                "--secure-port=0",
                f"--controllers={','.join(CONTROLLERS)}",
            ],
        }

    @property
    def _users(self) -> Path:
        return self.directory / "users.csv"

    @property
    def _signing_key(self) -> Path:
        return self.directory / "service-account.key"
