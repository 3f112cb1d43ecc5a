import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from keyturn.core.settings import Settings, parse_settings

URL = "http://127.0.0.1:4566"
DOCUMENT = (Path(__file__).parents[3] / "docs" / "operations" / "configuration.md").read_text()


def test_the_document_tells_every_setting_with_its_default() -> None:
    told = dict(re.findall(r"^\| `([a-zA-Z]+\.[a-zA-Z]+)` \| (.*?) \|", DOCUMENT, re.MULTILINE))
    defaults = {
        f"{part}.{name}": value
        for part, values in msgspec.to_builtins(Settings()).items()
        for name, value in values.items()
    }

    assert {name: None if text == "none" else yaml.safe_load(text.strip("`")) for name, text in told.items()} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()
    }


def test_its_example_can_be_read() -> None:
    example = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)

    assert example
    assert parse_settings(yaml.safe_load(example[1])) != Settings()


@pytest.mark.parametrize("content", [None, {}, {"aws": {}}, {"renewal": {"minIntervalSeconds": 10}}])
def test_what_is_left_out_is_the_default(content: Any) -> None:
    assert parse_settings(content) == Settings()


@pytest.mark.parametrize(
    ("endpoints", "found"),
    [
        pytest.param({}, None, id="none: AWS's own"),
        pytest.param({"sts": URL}, URL, id="of the service"),
        pytest.param({"sts": "https://a.example", "sts/eu-west-1": URL}, URL, id="of the service and region first"),
        pytest.param({"sts/us-east-1": URL}, None, id="of another region"),
        pytest.param({"license-manager": URL}, None, id="of another service"),
    ],
)
def test_endpoint(endpoints: dict[str, str], found: str | None) -> None:
    settings = parse_settings({"aws": {"endpoints": endpoints}})

    assert settings.aws.endpoint("sts", "eu-west-1") == found


def test_by_default_nothing_is_lent_but_tokens_for_sts() -> None:
    assert (Settings().sources.audiences, Settings().sources.ambient) == (("sts.amazonaws.com",), ())


@pytest.mark.parametrize(
    ("content", "path"),
    [
        pytest.param({"other": 1}, "unknown field `other`", id="an unknown field"),
        pytest.param({"aws": {"endpoints": {"STS": URL}}}, r"\$.aws.endpoints", id="a service in capitals"),
        pytest.param({"aws": {"endpoints": {"sts": "ftp://x"}}}, r"\$.aws.endpoints", id="no HTTP"),
        pytest.param({"aws": {"endpoints": {"sts": "http://me@x"}}}, r"\$.aws.endpoints", id="a user in the URL"),
        pytest.param({"aws": {"endpoints": {"sts": f"{URL}\n"}}}, r"\$.aws.endpoints", id="a newline at the end"),
        pytest.param({"renewal": {"minIntervalSeconds": 0}}, r"\$.renewal.minInter", id="no interval"),
        pytest.param({"issuers": {"allowedHosts": "one"}}, r"\$.issuers.allowedHosts", id="hosts that are no list"),
        *(
            pytest.param(
                {"issuers": {"allowedHosts": [host]}}, r"\$.issuers.allowedHosts\[0\]", id=f"no host: {host!r}"
            )
            for host in ("https://id.example", "id.example:8443", "*.id.example", "Id.example", "")
        ),
        pytest.param({"issuers": {"proxy": URL}}, r"needs a list of their hosts", id="a proxy to any host"),
        pytest.param({"issuers": {"allowedPrivateNetworks": ["10/8"]}}, r"\$.issuers", id="a network cut short"),
        pytest.param({"issuers": {"allowedPrivateNetworks": ["10.0.0.1/8"]}}, r"\$.issuers", id="a host in a network"),
        pytest.param({"issuers": {"allowedPrivateNetworks": ["all"]}}, r"\$.issuers.allowedPrivateNet", id="a word"),
        pytest.param({"aws": {"proxy": "proxy:3128"}}, r"\$.aws.proxy", id="a proxy that is no URL"),
        pytest.param({"aws": {"caBundle": ""}}, r"\$.aws.caBundle", id="certificates from nowhere"),
        pytest.param({"sources": {"audiences": [""]}}, r"\$.sources.audiences", id="an empty audience"),
        pytest.param({"sources": {"ambient": [{"roles": ["*"]}]}}, "namespaces", id="roles for nobody"),
        pytest.param({"sources": {"ambient": [{"namespaces": ["a"], "roles": []}]}}, "roles", id="no roles"),
        pytest.param([], "Expected `object`, got `array`", id="a list"),
    ],
)
def test_bad_settings_are_refused_with_the_path(content: Any, path: str) -> None:
    with pytest.raises(ValueError, match=path):
        parse_settings(content)
