"""An HTTPS client for issuers: it trusts their CA only and follows no redirects."""

import base64
import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

Form = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response; header names are lower case. An index reads a member of its JSON object."""

    status: int
    headers: dict[str, str]
    text: str = field(repr=False)

    def __getitem__(self, member: str) -> Any:
        return json.loads(self.text)[member]

    @property
    def members(self) -> set[str]:
        return set(json.loads(self.text))


def basic_authorization(client_id: str, secret: str) -> dict[str, str]:
    """Return the header of client_secret_basic: form-encoded, then base64 (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def send(url: str, ca: str, form: Form | None = None, headers: Mapping[str, str] | None = None) -> HttpResponse:
    host, _, path = url.removeprefix("https://").partition("/")
    body, content_type = urlencode(form or {}), {"Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPSConnection(host, timeout=10, context=ssl.create_default_context(cadata=ca))
    try:
        method = "GET" if form is None else "POST"
        connection.request(method, f"/{path}", body, {**content_type, **(headers or {})})
        response = connection.getresponse()
        response_headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpResponse(response.status, response_headers, response.read().decode())
    finally:
        connection.close()
