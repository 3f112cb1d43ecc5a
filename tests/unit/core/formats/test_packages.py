import configparser
import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PackageEndpoint, Token
from tests.support.dependencies import NOW
from tests.support.pipeline_values import ENDPOINTS, HELD, HOST, TOKENS, rendered

MAVEN = "{http://maven.apache.org/SETTINGS/1.0.0}"
READER = Path(__file__).with_name("npm_reads.js")
TWO = replace(HELD, package_endpoints=(*ENDPOINTS, PackageEndpoint("npm", "more", f"https://{HOST}/npm/more/")))
IDS = st.from_regex(r"[-A-Za-z0-9_.]{1,128}", fullmatch=True)


def file(name: str, value: str, **options: Any) -> str:
    return rendered({name: {"key": "it"} | options}, held=replace(HELD, access_token=Token(value, NOW)))["it"]


def test_pip() -> None:
    assert rendered({"pip": {}}) == {
        "pip.conf": f"[global]\nindex-url = https://aws:access%3D%3D@{HOST}/pypi/main/simple/\n",
        "expiration": "2026-01-02T03:34:05Z",
    }


def test_npm() -> None:
    assert rendered({"npm": {}})[".npmrc"] == (
        f"registry=https://{HOST}/npm/main/\n//{HOST}/npm/main/:_authToken=access==\n"
    )


def test_npm_of_a_scope() -> None:
    assert file("npm", "a", scope="@acme").startswith(f"@acme:registry=https://{HOST}/npm/main/\n//{HOST}/npm/main/:")


def test_maven() -> None:
    assert rendered({"maven": {}})["settings.xml"].splitlines()[2] == (
        "    <server><id>main</id><username>aws</username><password>access==</password></server>"
    )


def test_a_repository_is_chosen_by_its_name() -> None:
    text = rendered({"npm": {"repository": "more"}}, held=TWO)[".npmrc"]

    assert text.splitlines()[0] == f"registry=https://{HOST}/npm/more/"


@pytest.mark.parametrize(
    ("wanted", "held", "says"),
    [
        pytest.param(
            {"npm": {}}, TWO, "a format wants one npm repository, and the exchanges give main, more", id="of two"
        ),
        pytest.param(
            {"pip": {"repository": "more"}},
            TWO,
            "a format wants pypi repository more, and the exchanges give main",
            id="of another kind",
        ),
        pytest.param(
            {"maven": {}},
            replace(HELD, package_endpoints=ENDPOINTS[:2]),
            "a format wants one maven repository, and the exchanges give none",
            id="of none",
        ),
    ],
)
def test_a_repository_that_is_not_given_is_named(wanted: dict[str, Any], held: Any, says: str) -> None:
    with pytest.raises(RefusedError) as refused:
        rendered(wanted, held=held)

    assert (refused.value.reason, refused.value.message) == ("InvalidSpec", says)


@pytest.mark.parametrize("name", ["pip", "npm", "maven"])
@pytest.mark.parametrize("token", ["${HOME}", "{a}", "a b", ";b", "#b", "<b", "'a'", "a\n", "a=b"])
def test_a_token_that_could_mean_something_to_a_file_is_refused(name: str, token: str) -> None:
    with pytest.raises(RefusedError) as refused:
        file(name, f"planted{token}")

    assert (refused.value.reason, "planted" in refused.value.message) == ("SourceInvalid", False)


@pytest.mark.parametrize("name", ["pip", "npm", "maven"])
def test_the_source_token_is_no_password_of_an_endpoint(name: str) -> None:
    with pytest.raises(RefusedError, match="is not one of RFC 6750"):
        rendered({name: {}}, held=replace(HELD, access_token=None))


@pytest.mark.parametrize("url", ["https://h/a b/", "https://h/a\n[x]", "ftp://h/", "https://u:p@h/", "https://h/?a"])
@pytest.mark.parametrize(("name", "kind"), [("pip", "pypi"), ("npm", "npm"), ("maven", "maven")])
def test_an_endpoint_that_is_not_a_plain_url_is_refused(name: str, kind: str, url: str) -> None:
    held = replace(HELD, package_endpoints=(PackageEndpoint(kind, "main", url),))

    with pytest.raises(RefusedError, match="repository main is not a plain URL"):
        rendered({name: {}}, held=held)


@pytest.fixture(scope="module")
def pip_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that pip reads."""
    pytest.importorskip("pip", reason="pip is not installed here")
    path = tmp_path_factory.mktemp("pip") / "pip.conf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_CONFIG_FILE", str(path))
        yield path


@settings(deadline=None)
@given(token=TOKENS)
def test_pip_reads_the_token_back(pip_conf: Path, token: str) -> None:
    configuration = importlib.import_module("pip._internal.configuration")
    misc = importlib.import_module("pip._internal.utils.misc")
    pip_conf.write_text(file("pip", token))
    read = configuration.Configuration(isolated=False)
    read.load()
    url, _, login = misc.split_auth_netloc_from_url(read.get_value("global.index-url"))

    assert (url, login) == (f"https://{HOST}/pypi/main/simple/", ("aws", token))


@given(token=TOKENS)
def test_configparser_reads_the_token_back(token: str) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(file("pip", token))
    url = urlsplit(parser["global"]["index-url"])

    assert (url.username, unquote(url.password or ""), url.hostname) == ("aws", token, HOST)


@given(token=TOKENS)
def test_a_reader_of_lines_reads_the_npmrc_back(token: str) -> None:
    read = dict(line.split("=", 1) for line in file("npm", token).splitlines())

    assert read == {"registry": f"https://{HOST}/npm/main/", f"//{HOST}/npm/main/:_authToken": token}


@settings(max_examples=5, deadline=None)
@given(tokens=st.lists(TOKENS, min_size=20, max_size=60))
def test_npm_reads_the_token_back(tmp_path_factory: pytest.TempPathFactory, tokens: list[str]) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("Node and npm are not installed here")
    folder, root = tmp_path_factory.mktemp("npm"), Path(npm).resolve().parents[1]
    for number, token in enumerate(tokens):
        scope = {"scope": "@acme"} if number % 2 else {}
        (folder / f"{number:03}").write_text(file("npm", token, **scope))
    done = subprocess.run(
        [node, READER, root, folder], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )

    registry = f"https://{HOST}/npm/main/"
    assert json.loads(done.stdout) == [{"registry": registry, "token": token} for token in tokens]


@given(token=TOKENS, server=IDS)
def test_an_xml_parser_reads_the_settings_back(token: str, server: str) -> None:
    root = ET.fromstring(file("maven", token, serverId=server))  # noqa: S314 - it is our own

    def text(path: str) -> str | None:
        return root.findtext("/".join(f"{MAVEN}{tag}" for tag in path.split("/")))

    repository = "profiles/profile/repositories/repository"
    assert [text(f"servers/server/{tag}") for tag in ("id", "username", "password")] == [server, "aws", token]
    assert [text(f"{repository}/{tag}") for tag in ("id", "url")] == [server, f"https://{HOST}/maven/main/"]
    assert text("profiles/profile/id") == text("activeProfiles/activeProfile") == server
