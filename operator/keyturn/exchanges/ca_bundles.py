"""CA certificates that TokenRequests trust instead of the default ones."""

import base64
import re
import ssl
from functools import partial

from keyturn.api.source import ValueRef
from keyturn.core.der import count_elements, is_element
from keyturn.core.errors import RefusedError
from keyturn.exchanges.context import Call

# The bundle of all public certificate authorities, as Mozilla and AWS publish it, has 150 certificates in 220 KB.
_MAX_BUNDLE_LENGTH, _MAX_CERTIFICATES = 512 * 1024, 300
# The elements of DER, of which these certificates have 70 on average. For each, OpenSSL needs up to 120 bytes.
_MAX_ELEMENTS, _ELEMENT_LENGTH = 30_000, 16
# How many certificates are loaded at once. A key on the curve secp224r1 takes up to a millisecond.
_BATCH = 4
_LABEL = "(?:X509 )?CERTIFICATE-----"
_CERTIFICATE = re.compile(rf"-----BEGIN {_LABEL}([A-Za-z0-9+/=\s]*)-----END {_LABEL}")
# The start of both object IDs for explicit parameters of an elliptic curve: 1.2.840.10045.1 (RFC 3279 section 2.3.5).
_EXPLICIT_CURVE = bytes.fromhex("2a8648ce3d01")


async def load_ca_bundle(call: Call, ref: ValueRef) -> ssl.SSLContext:
    """Read a bundle, and return a context that trusts its certificates instead of the default ones.

    Raises RefusedError, and ThrottledError if the namespace uses too many large bundles.
    """
    bundle, run = await call.secret(ref, _MAX_BUNDLE_LENGTH), partial(call.context.cpu_limiter.run, call.namespace)
    certificates = await run(partial(_certificates, bundle))
    elements = await run(partial(_count_elements, certificates))
    # Each element counts as this many characters of a usual certificate.
    length = max(len(bundle), elements * _ELEMENT_LENGTH)
    async with call.context.bundle_memory.reserve(call.namespace, length) as hold:
        batches = [b"".join(certificates[start : start + _BATCH]) for start in range(0, len(certificates), _BATCH)]
        try:
            context = await run(partial(ssl.create_default_context, cadata=batches[0]))
            for batch in batches[1:]:
                await run(partial(context.load_verify_locations, cadata=batch))
        except (ssl.SSLError, ValueError):
            raise RefusedError("InvalidSpec", "caBundleFrom contains a certificate that is damaged") from None
        # Python 3.13 requires extensions that the certificates of many private CAs lack.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        hold(context)
    return context


def _count_elements(certificates: list[bytes]) -> int:
    """Return how many elements the certificates have. Raises RefusedError (InvalidSpec) if they are too many."""
    number = 0
    for certificate in certificates:
        number += count_elements(certificate, _MAX_ELEMENTS + 1 - number)
    if number > _MAX_ELEMENTS:
        problem = (
            f"caBundleFrom contains certificates with more than {_MAX_ELEMENTS} names, extensions and other elements"
        )
        raise RefusedError("InvalidSpec", problem)
    return number


def _certificates(bundle: str) -> list[bytes]:
    """Return the certificates of a bundle in DER. Between them there may be comments with any characters.

    Raises RefusedError (InvalidSpec) for a bundle that is damaged or would block the event loop. OpenSSL sorts all
    certificates again for each one that it adds. Explicit parameters, which RFC 5480 section 2.1.1 forbids, can take
    half a second.
    """
    encoded = _CERTIFICATE.findall(bundle)
    if not encoded:
        # OpenSSL would trust the default certificates.
        raise RefusedError("InvalidSpec", "caBundleFrom contains no certificates in PEM")
    if len(encoded) > _MAX_CERTIFICATES:
        problem = f"caBundleFrom contains {len(encoded)} certificates; at most {_MAX_CERTIFICATES} are allowed"
        raise RefusedError("InvalidSpec", problem)
    try:
        certificates = [base64.b64decode("".join(text.split()), validate=True) for text in encoded]
    except ValueError:
        certificates = []
    # OpenSSL would also load further certificates in the same block. Thousands of them take many seconds.
    if not certificates or not all(map(is_element, certificates)):
        raise RefusedError("InvalidSpec", "caBundleFrom contains a certificate that is damaged")
    if any(_EXPLICIT_CURVE in certificate for certificate in certificates):
        problem = "caBundleFrom contains a certificate with explicit elliptic curve parameters"
        raise RefusedError("InvalidSpec", f"{problem}; use one with a named curve")
    return certificates
