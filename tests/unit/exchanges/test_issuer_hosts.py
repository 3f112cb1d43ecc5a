"""The host of a token URL: what is compared with the allowed hosts is what is connected to."""

import pytest
from yarl import URL

from keyturn.core.errors import RefusedError
from keyturn.core.settings import parse_settings
from keyturn.exchanges.issuer_http import Form

FORM: tuple[list[tuple[str, str]], dict[str, str]] = ([], {})


@pytest.mark.parametrize(
    ("url", "host"),
    [
        pytest.param("https://id.example/token", "id.example", id="a name"),
        pytest.param("https://ID.Example/", "id.example", id="capitals"),
        pytest.param("https://id.example:8443/", "id.example", id="a port"),
        pytest.param("https://id_1.example/", "id_1.example", id="an underscore"),
        pytest.param("https://id.example./", "id.example.", id="a dot at the end"),
        pytest.param("https://fass.de/", "fass.de", id="an ASCII name"),
        pytest.param("https://faß.de/", "xn--fa-hia.de", id="a character that IDNA 2003 maps to another name"),
        pytest.param("https://xn--fa-hia.de/", "xn--fa-hia.de", id="its A-label"),
        pytest.param("https://ⅷ.example/", "viii.example", id="a compatibility character"),
        pytest.param("https://1.2.3.4/", "1.2.3.4", id="an address"),
        pytest.param("https://1。2。3。4/", "1.2.3.4", id="ideographic full stops"),
        pytest.param("https://\uff11.2.3.4/", "1.2.3.4", id="a full-width digit"),
        pytest.param("https://[::1]/", "::1", id="an IPv6 address"),
        pytest.param("https://[0:0:0:0:0:0:0:1]/", "::1", id="a long IPv6 address"),
        pytest.param("https://[v1.a]/", "v1.a", id="brackets around a name"),
    ],
)
def test_host_is_the_one_that_is_connected_to(url: str, host: str) -> None:
    form = Form(url, *FORM)

    assert (form.host, URL(url).raw_host) == (host, host)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://012.96.0.1/", id="octal"),
        pytest.param("https://0x7f.0.0.1/", id="hexadecimal"),
        pytest.param("https://127.1/", id="a short address"),
        pytest.param("https://2130706433/", id="an address as one number"),
        pytest.param("https://0x7f000001/", id="an address as one hexadecimal number"),
        pytest.param("https://1.2.3.4./", id="an address with a dot at the end"),
        pytest.param("https://1.2.3.256/", id="a number over 255"),
        pytest.param("https://1.2.3.4.5/", id="five numbers"),
        pytest.param("https://id.example.0x1/", id="a name that ends in a number"),
        pytest.param("https://[fe80::1%25eth0]/", id="an IPv6 zone"),
        pytest.param("https://[fe80::1%eth0]/", id="an unescaped IPv6 zone"),
        pytest.param("https://%69d.example/", id="percent-encoding"),
        pytest.param("https://id.example%2eevil.example/", id="an encoded dot"),
        pytest.param("https://id.example%00.evil.example/", id="a zero byte"),
        pytest.param("https://id.example;evil.example/", id="a semicolon"),
        pytest.param("https://id.example,evil.example/", id="a comma"),
        pytest.param("https://user@id.example/", id="a user"),
        pytest.param("https://id.example\\@evil.example/", id="a backslash"),
        pytest.param("https://-id.example/", id="a hyphen at the start"),
        pytest.param("https://id..example/", id="an empty label"),
        pytest.param("https://.example/", id="a dot at the start"),
        pytest.param(f"https://{'a' * 64}.example/", id="a label of 64 characters"),
        pytest.param(f"https://{'a.' * 127}example/", id="a name of 261 characters"),
        pytest.param("https://xn--zzzzzz.example/", id="an invalid A-label"),
        pytest.param("https://id.example:0/", id="port 0"),
        pytest.param("https://id.example:99999/", id="an invalid port"),
        pytest.param("https:///token", id="no host"),
    ],
)
def test_ambiguous_host_is_refused(url: str) -> None:
    with pytest.raises(RefusedError, match=r"^tokenUrl is not a valid URL: it has no host") as error:
        _ = Form(url, *FORM).host

    assert error.value.reason == "InvalidSpec"


@pytest.mark.parametrize(
    ("entry", "url", "is_allowed"),
    [
        ("fass.de", "https://fass.de/", True),
        ("fass.de", "https://FASS.de/", True),
        ("fass.de", "https://faß.de/", False),
        ("fass.de", "https://xn--fa-hia.de/", False),
        ("xn--fa-hia.de", "https://faß.de/", True),
        ("xn--fa-hia.de", "https://fass.de/", False),
        ("fass.de", "https://fass.de./", False),
        ("0:0::1", "https://[::1]/", True),
        ("::ffff:c000:201", "https://[::ffff:192.0.2.1]/", True),
        ("192.0.2.1", "https://[::ffff:c000:201]/", False),
    ],
)
def test_allowed_host_is_compared_with_the_connected_one(entry: str, url: str, *, is_allowed: bool) -> None:
    settings = parse_settings({"issuers": {"allowedHosts": [entry]}})

    assert settings.issuers.is_allowed(Form(url, *FORM).host) is is_allowed
