"""Trust in the CA of the API server, which may be replaced while the process runs."""

import contextlib
import ssl


def trust_new_ca(context: ssl.SSLContext, path: str | None) -> None:
    """Also trust the certificates that the CA file contains now. Without a usable file, nothing changes.

    Called after a certificate was refused. The next attempt uses the new CA, and a process that has an unsaved token
    need not be restarted.
    """
    with contextlib.suppress(OSError):  # includes SSLError
        if path:
            context.load_verify_locations(path)
