"""The options of `keyturn login` and `kubectl keyturn login`."""

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from keyturn.cli.durations import Seconds
from keyturn.cli.login.sign_in import LoginOptions
from keyturn.cli.options import FILE

_TEXT = {
    "--issuer": "Issuer whose metadata contains the endpoints. Default: derived from the token endpoint.",
    "--client-id": "Client ID. Default: the client ID in the TokenRequest.",
    "--authorization-endpoint": "URL of the authorization endpoint. Default: from the issuer's metadata.",
    "--device-authorization-endpoint": "URL of the device authorization endpoint. Default: from the issuer's metadata.",
    "--redirect-uri": "Redirect URI on loopback that is registered at the issuer. Default:"
    " http://127.0.0.1/callback with a free port.",
}


def login_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a sign-in. The command receives them as argument `options`."""
    names = {member.name for member in fields(LoginOptions)}

    @functools.wraps(command)
    def with_options(**params: Any) -> Any:
        options = LoginOptions(**{name: params.pop(name) for name in names})
        return command(options=options, **params)

    for name, text in reversed(_TEXT.items()):
        with_options = click.option(name, default="", metavar="URL" if "client" not in name else "ID", help=text)(
            with_options
        )
    for add in (
        click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Scope to request instead of the"
                     " scopes in the TokenRequest. Repeatable."),
        click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", callback=_parameters,
                     help="Additional parameter of the authorization request. Repeatable."),
        click.option("--device", is_flag=True, help="Sign in on any device, by entering a code (RFC 8628)."),
        click.option("--browser/--no-browser", "open_browser", default=True, help="Open a browser, or only print the"
                     " URL."),
        click.option("--timeout", "timeout_seconds", type=Seconds(), default="5m", show_default=True,
                     help="How long to wait for the sign-in."),
        click.option("--ca-file", type=FILE, help="CA certificates (PEM) to trust for the issuer. Default:"
                     " caBundleFrom of the TokenRequest, otherwise the system's."),
        click.option("-y", "--yes", is_flag=True, help="Store the result without confirmation."),
    ):  # fmt: skip
        with_options = add(with_options)
    return with_options


def _parameters(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, separator, _value in pairs:
        if not (name and separator):
            raise click.BadParameter("expected NAME=VALUE")
    return {name: value for name, _, value in pairs}
