"""A browser without a window: it signs a person in by filling in the forms of an issuer.

    python -m tests.support.browser CA_FILE USER PASSWORD URL

It ends at a page without a form. $BROWSER can be such a command, with %s for the URL.
"""

import ssl
import sys
import urllib.request
from collections.abc import Mapping
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode, urljoin

import pytest

_MAX_PAGES = 10


class _Forms(HTMLParser):
    """The first form of a page: its action and its fields, with their values."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action, self._inside = attributes.get("action", ""), True
        elif self._inside and tag in ("input", "button") and attributes.get("name"):
            is_button = tag == "button" or attributes.get("type") == "submit"
            # A person presses the first button of a form, which accepts.
            if not (is_button and any(name in self.fields for name in ("accept", "login"))):
                self.fields.setdefault(attributes["name"], attributes.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def sign_in(url: str, ca: str, form_values: Mapping[str, str]) -> str:
    """Open a page, fill in forms until a page has none, and return that page. `form_values` are keyed by field name."""
    context = ssl.create_default_context(cadata=ca)
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor(CookieJar())
    )
    body = None
    for _ in range(_MAX_PAGES):
        with opener.open(url, body, timeout=30) as response:
            page: str = response.read().decode()
            url = response.url
        form = _Forms(page)
        if form.action is None:
            return page
        fields = {name: form_values.get(name, value) for name, value in form.fields.items()}
        url, body = urljoin(url, form.action), urlencode(fields).encode()
    raise AssertionError(f"the issuer asks for more than {_MAX_PAGES} forms")


def use_browser(patch: pytest.MonkeyPatch, directory: Path, ca: str, user: str, password: str) -> None:
    """Have commands open this browser, with these words to sign in; `directory` receives the CA certificate."""
    (directory / "ca.pem").write_text(ca)
    patch.setenv("BROWSER", f"{sys.executable} -m {__name__} {directory / 'ca.pem'} {user} {password} %s")
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


if __name__ == "__main__":
    _, _ca_file, _user, _password, _url = sys.argv
    _form_values = {"login": _user, "username": _user, "password": _password}
    sign_in(_url, Path(_ca_file).read_text(), _form_values)
