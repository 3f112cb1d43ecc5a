"""A certificate authority, and a server on loopback that it vouches for."""

import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """PEM texts: the CA, and the server's certificate and private key."""

    ca: str
    certificate: str
    key: str = field(repr=False)

    def server_context(self) -> ssl.SSLContext:
        """Make what a TLS server needs; Python reads a private key from a file only."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.TemporaryDirectory() as folder:
            both = Path(folder, "server.pem")
            both.write_text(self.certificate + self.key)
            context.load_cert_chain(both)
        return context


def issue_loopback_certificate(now: datetime, *, plain: bool = False) -> ServerCertificate:
    """Make a CA, and a certificate of it for 127.0.0.1 and localhost, both for a day."""
    return issue_certificate(now, ["127.0.0.1"], ["localhost"], plain=plain)


def issue_certificate(
    now: datetime, addresses: Iterable[str], names: Iterable[str], *, plain: bool = False
) -> ServerCertificate:
    """Make a CA, and a certificate of it for these addresses and names, both for a day.

    `plain` leaves out what RFC 5280 wants of a CA and few look at: key usages and key identifiers. Clusters
    of Amazon EKS have such.
    """
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Test CA")
    ca = _certificate(ca_name, ca_name, ca_key, now)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None if plain else 0), critical=True)
    server = _certificate(_name("Test server"), ca_name, key, now)
    meant = [*(x509.IPAddress(ip_address(it)) for it in addresses), *(x509.DNSName(it) for it in names)]
    server = server.add_extension(x509.SubjectAlternativeName(meant), critical=False)
    if not plain:
        ca = ca.add_extension(_usage(signs_certificates=True), critical=True)
        ca = ca.add_extension(_id(ca_key), critical=False)
        server = server.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        server = server.add_extension(_usage(signs_certificates=False), critical=True)
        server = server.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        server = server.add_extension(issued_by, critical=False).add_extension(_id(key), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return ServerCertificate(_signed(ca, ca_key), _signed(server, ca_key), private)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now - _DAY).not_valid_after(now + _DAY)


def _id(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
