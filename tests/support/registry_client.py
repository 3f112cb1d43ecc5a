"""Checks whether package and image registries accept credentials."""

import base64
import urllib.error
import urllib.request


def is_authorized(url: str, authorization: str) -> bool:
    """Whether a registry accepts this Authorization header."""
    http_request = urllib.request.Request(url, headers={"Authorization": authorization})  # noqa: S310 - the emulator
    try:
        with urllib.request.urlopen(http_request, timeout=10) as response:  # noqa: S310 - the emulator
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        with error:  # its destructor would warn
            if error.code == 401:
                return False
            raise


def basic(user: str, password: str) -> str:
    """Return the Authorization header of HTTP basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
