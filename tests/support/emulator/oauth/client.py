"""Ask an issuer as a client does: over https, with nothing trusted but its CA."""

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
    """What came back; header names are lower case."""

    status: int
    headers: dict[str, str]
    text: str = field(repr=False)

    def __getitem__(self, member: str) -> Any:
        return json.loads(self.text)[member]

    @property
    def members(self) -> set[str]:
        return set(json.loads(self.text))


def basic_authorization(client_id: str, secret: str) -> dict[str, str]:
    """Write client_secret_basic, form-encoded before base64 (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def send(url: str, ca: str, form: Form | None = None, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Get what is at the URL, or post a form there; no redirect is followed."""
    host, _, path = url.removeprefix("https://").partition("/")
    body, form_type = urlencode(form or {}), {"Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPSConnection(host, timeout=10, context=ssl.create_default_context(cadata=ca))
    try:
        connection.request("GET" if form is None else "POST", f"/{path}", body, {**form_type, **(headers or {})})
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.headers.items()}
        return HttpResponse(answer.status, names, answer.read().decode())
    finally:
        connection.close()
