import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyturn.core.settings import Settings, parse_settings

URL = "http://127.0.0.1:4566"
DOCUMENT = (Path(__file__).parents[3] / "docs" / "operations" / "configuration.md").read_text()


def test_examples_on_the_page_are_valid() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)]
    settings = [parse_settings(block["config"]) for block in blocks if "config" in block]

    assert len(settings) > 3
    assert Settings() not in settings


@pytest.mark.parametrize("content", [None, {}, {"aws": {}}, {"renewal": {"minIntervalSeconds": 10}}])
def test_missing_settings_have_their_defaults(content: Any) -> None:
    assert parse_settings(content) == Settings()


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"sts": URL}, URL, id="the service"),
        pytest.param({"sts": "https://a.example", "sts/eu-west-1": URL}, URL, id="the service and the region"),
        pytest.param({"sts/us-east-1": URL}, None, id="another region"),
        pytest.param({"license-manager": URL}, None, id="another service"),
    ],
)
def test_endpoint_of_service_and_region_wins(endpoints: dict[str, str], expected: str | None) -> None:
    settings = parse_settings({"aws": {"endpoints": endpoints}})

    assert settings.aws.endpoint("sts", "eu-west-1") == expected


def test_default_allows_sts_audience_and_no_ambient_identity() -> None:
    assert (Settings().sources.audiences, Settings().sources.ambient) == (("sts.amazonaws.com",), ())


@pytest.mark.parametrize(
    ("content", "path"),
    [
        pytest.param({"other": 1}, "unknown field `other`", id="an unknown field"),
        pytest.param({"aws": {"endpoints": {"STS": URL}}}, r"\$.aws.endpoints", id="a service in capitals"),
        pytest.param({"aws": {"endpoints": {"sts": "ftp://x"}}}, r"\$.aws.endpoints", id="a URL that is not HTTP"),
        pytest.param({"aws": {"endpoints": {"sts": "http://me@x"}}}, r"\$.aws.endpoints", id="a user in the URL"),
        pytest.param({"aws": {"endpoints": {"sts": f"{URL}\n"}}}, r"\$.aws.endpoints", id="a newline at the end"),
        pytest.param({"renewal": {"minIntervalSeconds": 0}}, r"\$.renewal.minInter", id="an interval of zero"),
        pytest.param({"issuers": {"allowedHosts": "one"}}, r"\$.issuers.allowedHosts", id="hosts that are not a list"),
        *(
            pytest.param(
                {"issuers": {"allowedHosts": [host]}}, r"\$.issuers.allowedHosts\[0\]", id=f"the host {host!r}"
            )
            for host in ("https://id.example", "id.example:8443", "*.id.example", "Id.example", "")
        ),
        *(
            pytest.param(
                {"issuers": {"allowedHosts": [host]}}, f"allowedHosts: {host} is neither", id=f"the host {host}"
            )
            for host in ("127.1", "012.96.0.1", "2130706433", "0x7f", "a..b")
        ),
        pytest.param({"issuers": {"proxy": URL}}, r"proxy needs allowedHosts", id="a proxy without allowed hosts"),
        pytest.param({"issuers": {"allowedPrivateNetworks": ["10/8"]}}, r"\$.issuers", id="a network cut short"),
        pytest.param({"issuers": {"allowedPrivateNetworks": ["10.0.0.1/8"]}}, r"\$.issuers", id="a host in a network"),
        pytest.param(
            {"issuers": {"allowedPrivateNetworks": ["all"]}},
            r"\$.issuers.allowedPrivateNet",
            id="a network that is a word",
        ),
        pytest.param({"aws": {"proxy": "ftp://a"}}, r"^proxy is not an http://", id="a proxy of another scheme"),
        *(
            pytest.param(
                {part: {"proxy": "http://u:p@a"}}, r"^proxy contains a user name.*HTTPS_PROXY", id=f"{part}.proxy"
            )
            for part in ("aws", "issuers")
        ),
        pytest.param({"aws": {"caBundle": ""}}, r"\$.aws.caBundle", id="an empty CA bundle"),
        pytest.param({"sources": {"audiences": [""]}}, r"\$.sources.audiences", id="an empty audience"),
        pytest.param({"sources": {"ambient": [{"roles": ["*"]}]}}, "namespaces", id="ambient roles without namespaces"),
        pytest.param({"sources": {"ambient": [{"namespaces": ["a"], "roles": []}]}}, "roles", id="no roles"),
        pytest.param([], "Expected `object`, got `array`", id="a list"),
    ],
)
def test_invalid_settings_are_refused_with_the_path(content: Any, path: str) -> None:
    with pytest.raises(ValueError, match=path):
        parse_settings(content)
