import base64

import pytest

from keyturn.core.proxies import Proxies, Proxy, is_direct, parse_proxy
from tests.support.cases import cases

# The entries of NO_PROXY by what they show, with URLs of hosts that are listed and that are not.
NO_PROXY: dict[str, tuple[str, list[str], list[str]]] = {
    "nothing": ("", [], ["id.example", "127.0.0.1", "localhost"]),
    "a name and its subdomains": (
        "example.com",
        ["example.com", "id.example.com", "a.b.example.com"],
        ["notexample.com", "example.com.evil.test", "example.org", "com"],
    ),
    "a leading dot": (".example.com", ["id.example.com", "a.b.example.com"], ["example.com", "idexample.com"]),
    "an asterisk and a dot": ("*.example.com", ["id.example.com", "a.b.example.com"], ["example.com", "aexample.com"]),
    "an asterisk elsewhere": ("*example.com,id.*", [], ["example.com", "id.example.com", "id.example"]),
    "a single label": ("localhost,svc", ["localhost", "keyturn.svc"], ["localhost.example", "svc.example"]),
    "everything": ("*", ["id.example", "10.0.0.1", "[::1]"], []),
    "everything among others": ("a.example, *", ["id.example", "10.0.0.1"], []),
    "an address": ("192.0.2.1", ["192.0.2.1"], ["192.0.2.10", "1.192.0.2.1.example", "192.0.2.2"]),
    "a network": ("10.96.0.0/12", ["10.96.0.1", "10.111.255.255"], ["10.112.0.1", "10.96.example"]),
    "a network named by a host in it": ("10.1.2.3/8", ["10.200.0.1"], ["11.0.0.1"]),
    "a network of one address": ("192.0.2.1/32", ["192.0.2.1"], ["192.0.2.2"]),
    "an IPv6 address": ("2001:db8::1", ["[2001:db8::1]", "[2001:DB8:0::1]"], ["[2001:db8::2]", "192.0.2.1"]),
    "an IPv6 address in brackets": ("[2001:db8::1]", ["[2001:db8::1]"], ["[2001:db8::2]"]),
    "an IPv6 network": ("fd00::/8", ["[fd12::1]"], ["[fe80::1]", "10.0.0.1"]),
    "an IPv4-mapped address": ("192.0.2.1", ["[::ffff:192.0.2.1]"], ["[::ffff:192.0.2.2]"]),
    "an IPv4-mapped address in a network": ("192.0.2.0/24", ["[::ffff:192.0.2.1]"], ["[::ffff:198.51.100.1]"]),
    "a name and a port": (
        "example.com:8443",
        ["example.com:8443", "id.example.com:8443"],
        ["example.com", "id.example.com:443"],
    ),
    "a default port": ("example.com:443", ["example.com", "example.com:443"], ["example.com:8443"]),
    "a leading dot and a port": (".example.com:8443", ["id.example.com:8443"], ["example.com:8443", "id.example.com"]),
    "an address and a port": ("192.0.2.1:8443", ["192.0.2.1:8443"], ["192.0.2.1"]),
    "an IPv6 address and a port": ("[2001:db8::1]:8443", ["[2001:db8::1]:8443"], ["[2001:db8::1]"]),
    "spaces around commas": (" a.example , b.example ", ["a.example", "b.example"], ["c.example"]),
    "spaces instead of commas": ("a.example b.example\n", ["a.example", "b.example"], ["c.example"]),
    "empty entries": (",,a.example,", ["a.example"], ["b.example", "."]),
    "capitals": ("Example.COM", ["EXAMPLE.com", "Id.Example.Com"], []),
    "a dot at the end of the entry": ("example.com.", ["example.com", "id.example.com", "example.com."], []),
    "a dot at the end of the host": ("example.com,192.0.2.1", ["id.example.com.", "example.com."], []),
    "malformed entries": (
        "., .., :443, [::1, 10.0.0.0/99, 10.0.0.1/x, https://id.example, [], a:b:c",
        [],
        ["id.example", "10.0.0.1", "[::1]", "a"],
    ),
}


@cases("no_proxy, direct, proxied", NO_PROXY)
def test_no_proxy_lists_hosts_as_in_go_and_curl(no_proxy: str, direct: list[str], proxied: list[str]) -> None:
    proxies = Proxies(https=Proxy("http://proxy.example:3128"), no_proxy=no_proxy)
    urls = [f"https://{host}/token" for host in (*direct, *proxied)]

    assert [proxies.for_url(url) is None for url in urls] == [True] * len(direct) + [False] * len(proxied)


def test_host_may_be_in_brackets_or_not() -> None:
    assert is_direct("fd00::/8", "fd00::1", 443)
    assert is_direct("fd00::/8", "[fd00::1]", 443)


@cases(
    "text, url, credentials",
    {
        "no credentials": ("http://proxy.example:3128", "http://proxy.example:3128", None),
        "a user and a password": ("http://user:secret@proxy.example:3128", "http://proxy.example:3128", b"user:secret"),
        "an https proxy": ("https://user:secret@proxy.example", "https://proxy.example", b"user:secret"),
        "no scheme": ("user:secret@proxy.example:3128", "http://proxy.example:3128", b"user:secret"),
        "a user alone": ("http://user@proxy.example", "http://proxy.example", b"user:"),
        "a slash at the end": ("http://user:secret@proxy.example:3128/", "http://proxy.example:3128", b"user:secret"),
        "a newline at the end": ("http://user:secret@proxy.example\n", "http://proxy.example", b"user:secret"),
        "escaped characters": (
            "http://us%40er:p%3A%2F%23%3F%25%40%20w@proxy.example", "http://proxy.example", b"us@er:p:/#?%@ w",
        ),
        "letters of UTF-8": ("http://user:%C3%A4@proxy.example", "http://proxy.example", b"user:\xc3\xa4"),
        "letters of Latin-1": ("http://user:%E4@proxy.example", "http://proxy.example", b"user:\xe4"),
        "unescaped letters": ("http://user:ä@proxy.example", "http://proxy.example", "user:ä".encode()),
        "an unescaped @": ("http://user:p@ss@proxy.example", "http://proxy.example", b"user:p@ss"),
        "a colon in the password": ("http://user:a:b@proxy.example", "http://proxy.example", b"user:a:b"),
        "an IPv6 address": ("http://user:secret@[fd00::1]:3128", "http://[fd00::1]:3128", b"user:secret"),
    },
)  # fmt: skip
def test_proxy_url_is_separated_from_its_credentials(text: str, url: str, credentials: bytes | None) -> None:
    expected = f"Basic {base64.b64encode(credentials).decode()}" if credentials else ""
    proxy = parse_proxy(text, "HTTPS_PROXY")

    assert (proxy.url, proxy.authorization) == (url, expected)
    assert "secret" not in repr(proxy)
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("socks5://user:secret@proxy.example", id="another scheme"),
        pytest.param("http://user:sec/ret@proxy.example", id="an unescaped slash in the password"),
        pytest.param("http://user:12/secret@proxy.example", id="a password that starts like a port"),
        pytest.param("http://user:12#secret@proxy.example", id="an unescaped number sign in the password"),
        pytest.param("http://user:secret@", id="no host"),
        pytest.param("http://user:secret@proxy.example:http", id="a port that is no number"),
        pytest.param("http://user:secret@proxy.example:99999", id="a port over 65535"),
        pytest.param("http://user:secret@[fd00::1", id="an open bracket"),
        pytest.param("http://user:secret@proxy .example", id="a space"),
        pytest.param("http://user:secret@proxy.example,http://other", id="two proxies"),
    ],
)
def test_invalid_proxy_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY is not an http:// or https:// URL") as raised:
        parse_proxy(text, "HTTPS_PROXY")

    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is raised.value.__context__ is None


@pytest.mark.parametrize("text", ["http://user:secret@[fe80::1%25eth0]:3128", "[fe80::1%eth0]"])
def test_zone_of_an_address_is_named_as_the_cause(text: str) -> None:
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY has an IPv6 address with a zone") as raised:
        parse_proxy(text, "HTTPS_PROXY")

    assert "secret" not in str(raised.value)


def test_environment_names_the_proxies_in_both_cases() -> None:
    environment = {"https_proxy": "http://lower.example", "HTTPS_PROXY": "http://upper.example", "no_proxy": " "}
    environment |= {"http_proxy": "", "HTTP_PROXY": "http://upper.example", "NO_PROXY": "a.example"}
    proxies = Proxies.from_environment(environment | {"ALL_PROXY": "http://all.example"})

    assert proxies == Proxies(Proxy("http://upper.example"), Proxy("http://lower.example"), "a.example")
    assert Proxies.from_environment({"ALL_PROXY": "http://all.example"}) == Proxies()


def test_scheme_of_the_url_selects_the_proxy() -> None:
    proxies = Proxies(Proxy("http://a.example"), Proxy("http://b.example"))

    assert proxies.for_url("http://id.example") == Proxy("http://a.example")
    assert proxies.for_url("https://id.example") == Proxy("http://b.example")


def test_setting_replaces_both_proxies_and_keeps_no_proxy() -> None:
    proxies = Proxies(Proxy("http://a.example"), Proxy("http://b.example"), "id.example")
    setting = Proxy("http://c.example")

    assert proxies.with_override("http://c.example", "aws.proxy") == Proxies(setting, setting, "id.example")
    assert proxies.with_override(None, "aws.proxy") == proxies
