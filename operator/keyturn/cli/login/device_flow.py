"""The device authorization grant (RFC 8628): the person signs in on any device with a browser."""

import time
from collections.abc import Callable, Mapping

from keyturn.cli.login.client import Client
from keyturn.cli.login.issuer import IssuerHttp, Response, refusal
from keyturn.cli.login.plan import LoginError

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 sections 3.2 and 3.5.
_DEFAULT_INTERVAL, _SLOW_DOWN = 5, 5
_DEFAULT_LIFETIME = 300


def request_device_code(http: IssuerHttp, url: str, form: Mapping[str, str], client: Client) -> Response:
    """Request a device code (RFC 8628 section 3.1). Raises LoginError."""
    response = http.post(url, form, client)
    if not response.text("device_code") or not response.text("verification_uri"):
        raise LoginError(f"the issuer refused the device authorization request: {refusal(response)}")
    return response


def instructions(device: Response) -> str:
    """Return what the person does: the page to open and the code to enter there."""
    complete = device.text("verification_uri_complete")
    return (
        f"Open {device.text('verification_uri')} on any device and enter the code {device.text('user_code')}"
        f"{f', or open {complete}' if complete else ''}"
    )


def poll(  # noqa: PLR0913 - they are independent
    http: IssuerHttp, token_url: str, device: Response, authenticate: Callable[[], Client],
    timeout_seconds: float, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic,
) -> Response:  # fmt: skip
    """Poll the token endpoint until the person has signed in (RFC 8628 section 3.4).

    `authenticate` is called for each request, because an issuer accepts an assertion only once. Raises LoginError if
    the code expires or `timeout_seconds` have passed.
    """
    code, interval = device.text("device_code"), device.seconds("interval", _DEFAULT_INTERVAL)
    lifetime = device.seconds("expires_in", _DEFAULT_LIFETIME)
    deadline = clock() + min(lifetime, timeout_seconds)
    while (remaining := deadline - clock()) > 0:
        sleep(min(interval, remaining))
        client = authenticate()
        try:
            response = http.post(token_url, {"grant_type": _GRANT, "device_code": code}, client)
        except LoginError:
            # RFC 8628 section 3.5: poll less often after a timeout.
            interval *= 2
            continue
        if response.error == "slow_down":
            interval += _SLOW_DOWN
        elif response.is_temporary_failure:
            interval *= 2
        elif response.error != "authorization_pending":
            return response
    if timeout_seconds < lifetime:
        raise LoginError(f"nobody signed in within {timeout_seconds:.0f} s; use --timeout to wait longer")
    raise LoginError("the code has expired before anybody signed in")
