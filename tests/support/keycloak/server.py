"""Keycloak as a process, with a database in memory."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.controlplane.configuration import free_ports
from tests.support.controlplane.server import Server
from tests.support.keycloak.distribution import keycloak_home
from tests.support.keycloak.realm import AdminApi, Realm
from tests.support.processes import until

_START_SECONDS = 300
# As bin/kc.sh does, which would survive its parent. Compiled less, it starts faster.
_JAVA = [
    "java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("util", "util.concurrent", "security")),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keycloak:
    """A running Keycloak; `ca` (PEM) signed its certificate."""

    url: str
    ca: str
    password: str = field(repr=False)

    @property
    def admin(self) -> AdminApi:
        return AdminApi(self.url, self.ca, self.password)

    def create_realm(self, name: str, **representation: object) -> Realm:
        """Create a realm whose refresh tokens can be used once; `representation` has further settings."""
        self.admin.post("/admin/realms", realm=name, enabled=True, **{"revokeRefreshToken": True} | representation)
        return Realm(self.admin, name)


@contextmanager
def running_keycloak(directory: Path, trusted: str = "") -> Iterator[Keycloak]:
    """Run a Keycloak on a free loopback port; `trusted` are the certificates (PEM) of issuers that it calls."""
    certificate, (port, _, _) = issue_loopback_certificate(real_now()), free_ports()
    keycloak = Keycloak(f"https://127.0.0.1:{port}", certificate.ca, secrets.token_urlsafe())
    for name, text in {"tls.crt": certificate.certificate, "tls.key": certificate.key, "trusted.pem": trusted}.items():
        (directory / name).write_text(text)
    options = [
        "--optimized", "--cache=local", f"--hostname={keycloak.url}", "--http-host=127.0.0.1", f"--https-port={port}",
        f"--https-certificate-file={directory}/tls.crt", f"--https-certificate-key-file={directory}/tls.key",
        *([f"--truststore-paths={directory}/trusted.pem"] if trusted else []),
    ]  # fmt: skip
    server = Server("keycloak", _command(keycloak.password, options), directory / "keycloak.log")
    server.start()
    try:
        until(lambda: _responds(server, keycloak), seconds=_START_SECONDS, every=1)
        yield keycloak
    finally:
        server.stop()


def _command(password: str, options: list[str]) -> list[str]:
    home = keycloak_home()
    folders = [f"-Dkc.home.dir={home}", f"-Djboss.server.config.dir={home}/conf"]
    main = ["-cp", f"{home}/lib/quarkus-run.jar", "io.quarkus.bootstrap.runner.QuarkusEntryPoint", "start"]
    # Not in the arguments of the server, which any user may read.
    administrator = ["KC_BOOTSTRAP_ADMIN_USERNAME=admin", f"KC_BOOTSTRAP_ADMIN_PASSWORD={password}"]
    return ["env", *administrator, *_JAVA, *folders, *main, *options]


def _responds(server: Server, keycloak: Keycloak) -> bool:
    server.check()
    try:
        keycloak.admin.get("/realms/master")
    except OSError:
        return False
    return True
