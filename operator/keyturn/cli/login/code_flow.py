"""The authorization code grant with PKCE, and a listener on loopback for its redirect (RFC 6749, 7636 and 8252)."""

import base64
import hashlib
import hmac
import http.server
import queue
import secrets
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from keyturn.cli.login.plan import LoginError

_CONNECTION_SECONDS = 10
_LOOPBACK = ("127.0.0.1", "localhost")
_DONE = "You can close this window and return to the terminal."


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """The parameters of an authorization request, and what its response is checked against."""

    parameters: dict[str, str]
    issuer: str = ""
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    # 43 characters (RFC 7636 section 4.1).
    code_verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def url(self, endpoint: str, redirect_uri: str) -> str:
        """Return the URL to open in a browser. A query of the endpoint is kept (RFC 6749 section 3.1)."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.code_verifier.encode()).digest()).decode().rstrip("=")
        query = urlencode(
            self.parameters
            | {
                "response_type": "code",
                "redirect_uri": redirect_uri,
                "state": self.state,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    def code(self, response: dict[str, list[str]]) -> str:
        """Return the code of an authorization response. Raises LoginError if the issuer refused.

        A response with another state belongs to another request: it raises ValueError and is ignored.
        """
        member = {name: values[0] for name, values in response.items()}
        if not hmac.compare_digest(member.get("state", "").encode(), self.state.encode()):
            raise ValueError
        # A response from another issuer, to which the user was lured (RFC 9207 section 2.4).
        if self.issuer and member.get("iss", self.issuer) != self.issuer:
            raise LoginError("the authorization response comes from another issuer (RFC 9207)")
        if error := member.get("error"):
            description = member.get("error_description", "")
            raise LoginError(f"the issuer refused the sign-in: {error}{f': {description}' * bool(description)}")
        if not member.get("code"):
            raise LoginError("the authorization response has no code")
        return member["code"]


class Listener(http.server.ThreadingHTTPServer):
    """Waits for the authorization response at a redirect URI on loopback; port 0 becomes a free one.

    Each connection has a thread, because browsers open connections in advance and leave them idle.
    """

    daemon_threads = True

    def __init__(self, redirect_uri: str, request: AuthorizationRequest) -> None:
        parts = urlsplit(redirect_uri)
        if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
            raise LoginError(
                f"the redirect URI {redirect_uri} is not on loopback: register one such as"
                " http://127.0.0.1:8400/callback at the issuer and set it with --redirect-uri"
            )
        self.path, self.request = parts.path or "/", request
        self._results: queue.SimpleQueue[str | LoginError] = queue.SimpleQueue()
        try:
            super().__init__((_LOOPBACK[0], parts.port or 0), _Handler)
        except OSError as error:
            raise LoginError(f"cannot listen on {redirect_uri}: {error.strerror}") from None
        self.redirect_uri = f"http://{parts.hostname}:{self.server_port}{parts.path}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Print no traceback: browsers reset connections."""

    def receive(self, parameters: dict[str, list[str]]) -> bool:
        """Take an authorization response; return whether it belongs to this sign-in."""
        try:
            result: str | LoginError = self.request.code(parameters)
        except LoginError as error:
            result = error
        except ValueError:
            return False
        self._results.put(result)
        return True

    def wait(self, seconds: float) -> str:
        """Return the code. Raises LoginError if the issuer refused or nobody signed in within this time."""
        try:
            result = self._results.get(timeout=seconds)
        except queue.Empty:
            raise LoginError(f"nobody signed in within {seconds:.0f} s; use --timeout to wait longer") from None
        if isinstance(result, LoginError):
            raise result
        return result


class _Handler(http.server.BaseHTTPRequestHandler):
    """Responds to the redirect, and to no other request, such as one for an icon."""

    timeout = _CONNECTION_SECONDS
    server: Listener

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        is_response = path == self.server.path and self.server.receive(parse_qs(query))
        content = (_DONE if is_response else "Not found").encode()
        self.send_response(HTTPStatus.OK if is_response else HTTPStatus.NOT_FOUND)
        for name, value in {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            # The URL contains the code.
            "Referrer-Policy": "no-referrer",
            "Connection": "close",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """The log of http.server would contain the code."""
