"""HTTP requests to an issuer during a sign-in, with the standard library, and the discovery of its endpoints."""

import http.client
import queue
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from keyturn.cli.login.client import Client
from keyturn.cli.login.plan import LoginError
from keyturn.core.bounded_json import decode_response

_TIMEOUT_SECONDS = 30
_LONGEST_WAIT_SECONDS = 24 * 60 * 60
_MAX_RESPONSE_BYTES = 1024 * 1024
# Issuers whose token endpoint is not below their issuer URL, or that publish no metadata.
_GOOGLE, _GITHUB = "https://oauth2.googleapis.com/token", "https://github.com/login/oauth/access_token"
_ENTRA = "/oauth2/v2.0/token"
# Parameters of a request that an issuer may repeat in an error description.
_SECRET_PARAMETERS = ("code", "code_verifier", "device_code")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """URLs of an issuer (RFC 8414 section 2), each empty if unknown. `issuer` is its identifier."""

    token_url: str = ""
    authorization: str = ""
    device_authorization: str = ""
    issuer: str = ""
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A response of an issuer, and the secrets in the request. Its members may be tokens, so they are not shown."""

    status: int
    members: Mapping[str, Any] = field(repr=False)
    sent: tuple[str, ...] = field(default=(), repr=False)

    @property
    def error(self) -> str:
        """The error code (RFC 6749 section 5.2), empty if there is none."""
        error = self.members.get("error")
        return error if isinstance(error, str) else ""

    @property
    def is_temporary_failure(self) -> bool:
        """Whether the issuer, or a gateway before it, returned neither tokens nor an error of OAuth."""
        is_temporary = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status == HTTPStatus.TOO_MANY_REQUESTS
        return is_temporary and not self.members

    def text(self, name: str) -> str:
        """Return a member that is text, empty if it is not."""
        value = self.members.get(name)
        return value if isinstance(value, str) else ""

    def seconds(self, name: str, default: int) -> int:
        """Return a member that is a positive number of seconds, limited to one day because it may be infinite."""
        value = self.members.get(name)
        if not (isinstance(value, (int, float)) and value > 0):
            return default
        return int(min(value, _LONGEST_WAIT_SECONDS))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could send a code or a client secret to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class IssuerHttp:
    """Sends requests to an issuer over TLS, through the proxies of the environment.

    `ca_bundle` (PEM) replaces the trusted certificates of the system. `timeout_seconds` limits each request as a whole.
    Raises LoginError if a request fails.
    """

    def __init__(self, ca_bundle: str | None = None, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        try:
            # Comments may contain any characters, but ssl accepts only ASCII. To ssl, an empty text means the default
            # certificates.
            text = None if ca_bundle is None else ca_bundle.encode("ascii", "replace").decode() or "\n"
            context = ssl.create_default_context(cadata=text)
        except ssl.SSLError:
            raise LoginError("the CA bundle contains no valid PEM certificate") from None
        self._opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=context))
        self._timeout_seconds = timeout_seconds

    def get(self, url: str) -> Response:
        """Fetch a JSON document."""
        return self._send(url, {})

    def post(self, url: str, form: Mapping[str, str], client: Client) -> Response:
        """Send a form of a client. A response that is not a JSON object has no members."""
        content = urllib.parse.urlencode({**form, **client.fields}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", **client.headers}
        sent = (client.secret, *(form[name] for name in _SECRET_PARAMETERS if name in form))
        return replace(self._send(url, headers, content), sent=sent)

    def _send(self, url: str, headers: Mapping[str, str], content: bytes | None = None) -> Response:
        """Send a request in a thread, because urllib limits only the time between two packets of the response."""
        results: queue.SimpleQueue[Response | LoginError] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: results.put(self._try_to_send(url, headers, content)), daemon=True)
        thread.start()
        try:
            result = results.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise LoginError(f"{_without_query(url)} has not responded within {self._timeout_seconds:g} s") from None
        if isinstance(result, LoginError):
            raise result
        return result

    def _try_to_send(self, url: str, headers: Mapping[str, str], content: bytes | None) -> Response | LoginError:
        where = _without_query(url)
        try:
            if urlsplit(url).scheme != "https":
                return LoginError(f"{url} is not an https URL")
            request = urllib.request.Request(url, content, {"Accept": "application/json", **headers})  # noqa: S310 - https
            try:
                response = self._opener.open(request, timeout=self._timeout_seconds)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                return Response(response.status, decode_response(response.read(_MAX_RESPONSE_BYTES)) or {})
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, (http.client.BadStatusLine, http.client.UnknownProtocol)) and not isinstance(
                error, OSError
            ):
                # Their texts contain the beginning of the response, which may be a token.
                return LoginError(f"{where}: the response is not HTTP/1.1")
            cause = getattr(error, "reason", None) or error
            if isinstance(cause, ssl.SSLCertVerificationError):
                return LoginError(
                    f"{where}: the certificate is not trusted ({cause.verify_message}); --ca-file adds a CA"
                )
            return LoginError(f"{where} cannot be reached: {getattr(cause, 'strerror', None) or cause}")
        except ValueError:
            return LoginError(f"{where} is not a valid URL")


def discover(http: IssuerHttp, token_url: str, issuer: str = "") -> Endpoints:
    """Find the endpoints of an issuer from its metadata (RFC 8414, OpenID Connect Discovery 1.0 section 4).

    Without `issuer`, each URL that the token endpoint is below is tried. Metadata counts only if it states its own URL
    as the issuer and, if there is one, this token endpoint: codes are sent nowhere else. Returns what is known. Raises
    LoginError if a URL is not valid.
    """
    for url in (token_url, issuer):
        try:
            urlsplit(url)
        except ValueError:
            raise LoginError(f"{_without_query(url)} is not a valid URL") from None
    if token_url == _GITHUB:  # it publishes no metadata
        base = token_url.removesuffix("/oauth/access_token")
        return Endpoints(token_url, f"{base}/oauth/authorize", f"{base}/device/code")
    for candidate in [issuer] if issuer else _candidates(token_url):
        for url in _metadata_urls(candidate):
            metadata = http.get(url)
            endpoint = metadata.text("token_endpoint")
            is_issuer = metadata.text("issuer").rstrip("/") == candidate.rstrip("/")
            if metadata.status == HTTPStatus.OK and is_issuer and endpoint == (token_url or endpoint):
                scopes = metadata.members.get("scopes_supported")
                return Endpoints(
                    endpoint,
                    metadata.text("authorization_endpoint"),
                    metadata.text("device_authorization_endpoint"),
                    metadata.text("issuer"),
                    tuple(map(str, scopes)) if isinstance(scopes, list) else (),
                )
    if issuer:
        raise LoginError(f"{issuer} publishes no metadata for this token endpoint (RFC 8414, OpenID Connect Discovery)")
    return Endpoints(token_url)


def refusal(response: Response) -> str:
    """Describe an error response: its code, and its description unless that repeats a secret of the request."""
    description = response.text("error_description")
    if not response.error:
        return f"the response has status {response.status} and no error code (RFC 6749 section 5.2)"
    if not description or any(secret and secret in description for secret in response.sent):
        return response.error
    return f"{response.error}: {description}"


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _candidates(token_url: str) -> Iterator[str]:
    """Yield possible issuers of a token endpoint, the most specific first."""
    if token_url == _GOOGLE:
        yield "https://accounts.google.com"
    base = token_url.partition("?")[0]
    if base.endswith(_ENTRA):
        yield base.removesuffix(_ENTRA) + "/v2.0"
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(base))
    while base != origin:
        base = base.rpartition("/")[0]
        yield base


def _metadata_urls(issuer: str) -> tuple[str, ...]:
    parts = urlsplit(issuer.rstrip("/"))
    return (
        f"{parts.geturl()}/.well-known/openid-configuration",
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}",
    )
