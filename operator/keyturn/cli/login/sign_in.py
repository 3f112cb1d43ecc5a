"""Signs a person in, with a browser on this machine or on another device, and returns what to store."""

import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from keyturn.cli import now
from keyturn.cli.login.client import Client, ValueReader, authenticate
from keyturn.cli.login.code_flow import AuthorizationRequest, Listener
from keyturn.cli.login.device_flow import instructions, poll, request_device_code
from keyturn.cli.login.issuer import Endpoints, IssuerHttp, Response, discover, refusal
from keyturn.cli.login.plan import LoginError, LoginPlan
from keyturn.cli.terminal import echo

_OFFLINE = "offline_access"
_REDIRECT_URI = "http://127.0.0.1:0/callback"


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """The options of a sign-in. Empty ones are taken from the TokenRequest or from the issuer's metadata."""

    issuer: str = ""
    client_id: str = ""
    authorization_endpoint: str = ""
    device_authorization_endpoint: str = ""
    redirect_uri: str = ""
    scopes: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    device: bool = False
    open_browser: bool = True
    timeout_seconds: int = 300


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in of a client at an issuer. `authenticate` is called for each request. Raises LoginError."""

    plan: LoginPlan
    options: LoginOptions
    http: IssuerHttp
    endpoints: Endpoints
    authenticate: Callable[[], Client]

    def question(self, results: str) -> str:
        """Return the question before the sign-in. It names the host, which receives the client's secret."""
        host = urlsplit(self.endpoints.token_url).netloc
        place = f" at {host}" if host else ""
        return f"Sign in{place} and write {results}?"

    def run(self) -> dict[str, str]:
        """Return the value of each result that the plan stores."""
        if not self.plan.exchanges_code:
            code, request, _ = self._authorize()
            # The code is stored last: a process that sees it uses it at once.
            return {"code_verifier": request.code_verifier, "code": code}
        can_use_device = bool(self.endpoints.device_authorization)
        if self.options.device or (can_use_device and not self.endpoints.authorization):
            response = self._with_device()
        else:
            response = self._with_browser()
        return {name: _token(response, name) for name in self.plan.stores}

    def _with_browser(self) -> Response:
        code, request, redirect_uri = self._authorize()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": request.code_verifier,
        }
        response = self.http.post(self._token_endpoint, form, self.authenticate())
        if response.error:
            raise LoginError(f"the issuer refused the authorization code: {refusal(response)}")
        return response

    def _with_device(self) -> Response:
        if not self.endpoints.device_authorization:
            raise LoginError("the issuer publishes no such endpoint: set --device-authorization-endpoint")
        device = request_device_code(self.http, self.endpoints.device_authorization, self._request, self.authenticate())
        echo(instructions(device), err=True)
        response = poll(self.http, self._token_endpoint, device, self.authenticate, self.options.timeout_seconds)
        if response.error:
            raise LoginError(f"the issuer refused the sign-in: {refusal(response)}")
        return response

    def _authorize(self) -> tuple[str, AuthorizationRequest, str]:
        """Have the person sign in with a browser. Returns the code, its request and the redirect URI."""
        if not self.endpoints.authorization:
            raise LoginError(
                "the authorization endpoint is not known: set --authorization-endpoint, or --issuer to read it from the"
                " issuer's metadata"
            )
        # The browser's command could read another URL as an option, or another program could open it.
        if not self.endpoints.authorization.startswith("https://"):
            raise LoginError(f"the authorization endpoint {self.endpoints.authorization} is not an https URL")
        request = AuthorizationRequest({"client_id": self.plan.client_id, **self._request}, self.endpoints.issuer)
        with Listener(self.plan.redirect_uri or _REDIRECT_URI, request) as listener:
            url = request.url(self.endpoints.authorization, listener.redirect_uri)
            # The listener is on this machine, so a browser on another one cannot finish the sign-in.
            echo("Sign in on this page, with a browser on this machine:", url, err=True)
            if self.options.open_browser:
                webbrowser.open(url)
            return listener.wait(self.options.timeout_seconds), request, listener.redirect_uri

    @property
    def _request(self) -> dict[str, str]:
        """The parameters that the authorization request and the device authorization request have in common."""
        scopes = self.options.scopes or self.plan.scopes
        if "refresh_token" in self.plan.stores and not self.options.scopes:
            scopes = (*scopes, *({"openid", _OFFLINE} & set(self.endpoints.scopes) - set(scopes)))
        parameters = {"scope": " ".join(scopes)} if scopes else {}
        if _OFFLINE in scopes:
            # Without consent, an issuer ignores the scope (OpenID Connect Core 1.0 section 11).
            parameters["prompt"] = "consent"
        if self.plan.resources:
            parameters["resource"] = self.plan.resources[0]
        return parameters | dict(self.options.parameters)

    @property
    def _token_endpoint(self) -> str:
        if not self.endpoints.token_url:
            raise LoginError("the token endpoint is not known: set --issuer to read it from the issuer's metadata")
        return self.endpoints.token_url


def open_session(plan: LoginPlan, options: LoginOptions, ca_file: Path | None, reader: ValueReader) -> SignIn:
    """Prepare a sign-in with the values that the TokenRequest refers to. Raises LoginError."""
    if ca_file:
        ca_bundle: str | None = read_file(ca_file)
    else:
        ca_bundle = reader.read(plan.ca_bundle_ref) if plan.ca_bundle_ref else None
    session = prepare(plan, options, IssuerHttp(ca_bundle), reader)
    if plan.exchanges_code:
        # Before the person signs in: without the client's secret or key, the sign-in would fail.
        session.authenticate()
    return session


def read_file(path: Path) -> str:
    """Read a text file. Raises LoginError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LoginError(f"{path}: {error.strerror}") from None
    except UnicodeError:
        raise LoginError(f"{path}: not text in UTF-8") from None


def prepare(plan: LoginPlan, options: LoginOptions, http: IssuerHttp, reader: ValueReader) -> SignIn:
    """Combine plan, options and the issuer's metadata. Raises LoginError if something is missing."""
    plan = replace(
        plan,
        client_id=options.client_id or plan.client_id,
        redirect_uri=options.redirect_uri or plan.redirect_uri,
    )
    if not plan.client_id:
        raise LoginError("the TokenRequest states no client ID for the sign-in: set --client-id")
    if not plan.exchanges_code and not options.authorization_endpoint:
        raise LoginError(
            "AWS does not document the authorization endpoint of customer managed applications. If your application's"
            " vendor or AWS Support gave you its URL, set it with --authorization-endpoint"
        )
    known = Endpoints()
    if plan.token_url or options.issuer:
        known = discover(http, plan.token_url, options.issuer)
    endpoints = replace(
        known,
        authorization=options.authorization_endpoint or known.authorization,
        device_authorization=options.device_authorization_endpoint or known.device_authorization,
    )
    return SignIn(plan, options, http, endpoints, lambda: authenticate(plan.client, plan.client_id, reader, now()))


def _token(response: Response, name: str) -> str:
    """Return a token of a response."""
    token = response.text(name)
    if token:
        return token
    if not response.text("access_token"):
        raise LoginError(f"the token endpoint returned no token: {refusal(response)}")
    hint = {
        "refresh_token": "request it with --scope offline_access or --parameter access_type=offline, and allow it for"
        " this client at the issuer",
        "id_token": "request it with --scope openid",
    }[name]
    raise LoginError(f"the issuer returned no {name.replace('_', ' ')}: {hint}")
