"""The configuration of a control plane: ports, flags, keys and the administrator's token."""

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
_CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "clusterrole-aggregation-controller",
)


def free_ports() -> tuple[int, int, int]:
    """Return three free ports: for the API server, etcd's clients and etcd's peers."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(3)]
        api, clients, peers = (it.getsockname()[1] for it in sockets)
        return api, clients, peers


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of one control plane, with all files in `directory` and the API server at `address`."""

    directory: Path
    address: str = LOOPBACK
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
        # RSA as in real clusters: some identity providers accept only RS256.
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private_file(self._signing_key, pem.decode())
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "x", "cluster": cluster}],
            "users": [{"name": "x", "user": {"token": self.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        write_private_file(self.kubeconfig, json.dumps(config))

    def flags(self) -> dict[str, list[str]]:
        """Return the flags of each server, in the order in which the servers depend on each other."""
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
                f"--advertise-address={self.address}",  # a machine without a network has no default address
                "--endpoint-reconciler-type=none",  # the reconciler accepts no loopback address
                f"--secure-port={self.ports[0]}",
                f"--cert-dir={self.ca_file.parent}",
                f"--service-account-issuer={self.url}",
                f"--service-account-key-file={self._signing_key}",
                f"--service-account-signing-key-file={self._signing_key}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--authorization-mode=RBAC",
                f"--token-auth-file={self._users}",
                "--disable-admission-plugins=ServiceAccount",  # no pod runs that would mount a token
                "--allow-privileged=true",
            ],
            "kube-controller-manager": [
                f"--kubeconfig={self.kubeconfig}",
                f"--service-account-private-key-file={self._signing_key}",
                "--leader-elect=false",
                "--secure-port=0",
                f"--controllers={','.join(_CONTROLLERS)}",
            ],
        }

    @property
    def _users(self) -> Path:
        return self.directory / "users.csv"

    @property
    def _signing_key(self) -> Path:
        return self.directory / "service-account.key"
