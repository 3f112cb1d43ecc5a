"""A certificate authority and a server certificate, for TLS servers of tests."""

import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The CA, and the server's certificate and private key, in PEM."""

    ca: str
    certificate: str
    key: str = field(repr=False)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # The ssl module reads private keys from files only.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "server.pem")
            path.write_text(self.certificate + self.key)
            context.load_cert_chain(path)
        return context


def issue_loopback_certificate(now: datetime, *, plain: bool = False) -> ServerCertificate:
    """Create a CA and a certificate for 127.0.0.1 and localhost, valid for a day."""
    return issue_certificate(now, ["127.0.0.1"], ["localhost"], plain=plain)


def issue_certificate(
    now: datetime, addresses: Iterable[str], names: Iterable[str], *, plain: bool = False
) -> ServerCertificate:
    """Create a CA and a certificate for these addresses and names, valid for a day.

    `plain` omits the key usages and key identifiers that RFC 5280 requires and few clients check. Amazon EKS
    clusters have such certificates.
    """
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Test CA")
    ca = _certificate(ca_name, ca_name, ca_key, now)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None if plain else 0), critical=True)
    server = _certificate(_name("Test server"), ca_name, key, now)
    subjects = [*(x509.IPAddress(ip_address(it)) for it in addresses), *(x509.DNSName(it) for it in names)]
    server = server.add_extension(x509.SubjectAlternativeName(subjects), critical=False)
    if not plain:
        ca = ca.add_extension(_key_usage(is_ca=True), critical=True)
        ca = ca.add_extension(_key_id(ca_key), critical=False)
        server = server.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        server = server.add_extension(_key_usage(is_ca=False), critical=True)
        server = server.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        server = server.add_extension(authority_id, critical=False).add_extension(_key_id(key), critical=False)
    private_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return ServerCertificate(_sign(ca, ca_key), _sign(server, ca_key), private_key)


def issue_client_certificate(now: datetime, key: Any) -> x509.Certificate:
    """Create a self-signed certificate for a private key of any kind that can sign certificates."""
    subject = _name("Test client")
    return _certificate(subject, subject, key, now).sign(key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: Any, now: datetime) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now - _DAY).not_valid_after(now + _DAY)


def _key_id(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        decipher_only=False,
        **dict.fromkeys(others, False),
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
