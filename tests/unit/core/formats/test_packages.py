import base64
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
from keyturn.core.pipeline_values import PackageEndpoint, PipelineValues, RegistryLogin, Token
from tests.support.controlplane.build import binary
from tests.support.dependencies import HOUR, NOW
from tests.support.manifests.parts import template
from tests.support.pipeline_values import BEARER_TOKENS, ENDPOINTS, HOST, LOGIN, REGISTRY, SAFE_TEXTS, VALUES, rendered

MAVEN = "{http://maven.apache.org/SETTINGS/1.0.0}"
NPM_READER = Path(__file__).with_name("npm_reads.js")
TWO_NPM_REPOSITORIES = replace(
    VALUES, package_endpoints=(*ENDPOINTS, PackageEndpoint("npm", "more", f"https://{HOST}/npm/more/"))
)
SERVER_IDS = st.from_regex(r"[-A-Za-z0-9_.]{1,128}", fullmatch=True)


def file(name: str, value: str, **options: Any) -> str:
    return rendered({name: {"key": "it"} | options}, values=replace(VALUES, access_token=Token(value, NOW)))["it"]


def test_pip_percent_encodes_the_token() -> None:
    assert rendered({"pip": {}}) == {
        "pip.conf": f"[global]\nindex-url = https://aws:access%3D%3D@{HOST}/pypi/main/simple/\n",
        "expiration": "2026-01-02T03:34:05Z",
    }


def test_npm_authenticates_by_registry_url() -> None:
    assert rendered({"npm": {}})[".npmrc"] == (
        f"registry=https://{HOST}/npm/main/\n//{HOST}/npm/main/:_authToken=access==\n"
    )


def test_npm_limits_the_registry_to_the_scope() -> None:
    assert file("npm", "a", scope="@acme").startswith(f"@acme:registry=https://{HOST}/npm/main/\n//{HOST}/npm/main/:")


def test_maven_has_a_server_with_the_token() -> None:
    assert rendered({"maven": {}})["settings.xml"].splitlines()[2] == (
        "    <server><id>main</id><username>aws</username><password>access==</password></server>"
    )


def test_repository_is_chosen_by_name() -> None:
    text = rendered({"npm": {"repository": "more"}}, values=TWO_NPM_REPOSITORIES)[".npmrc"]

    assert text.splitlines()[0] == f"registry=https://{HOST}/npm/more/"


@pytest.mark.parametrize(
    ("format_spec", "values", "message"),
    [
        pytest.param(
            {"npm": {}},
            TWO_NPM_REPOSITORIES,
            "a format needs one npm repository, but the exchanges provide main, more",
            id="two match",
        ),
        pytest.param(
            {"pip": {"repository": "more"}},
            TWO_NPM_REPOSITORIES,
            "a format needs pypi repository more, but the exchanges provide main",
            id="only of another package format",
        ),
        pytest.param(
            {"maven": {}},
            replace(VALUES, package_endpoints=ENDPOINTS[:2]),
            "a format needs one maven repository, but the exchanges provide none",
            id="none matches",
        ),
    ],
)
def test_ambiguous_or_missing_repository_is_refused(
    format_spec: dict[str, Any], values: PipelineValues, message: str
) -> None:
    with pytest.raises(RefusedError) as error:
        rendered(format_spec, values=values)

    assert (error.value.reason, error.value.message) == ("InvalidSpec", message)


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("maven", "${HOME}"), ("maven", "{a}"), ("maven", "<b"), ("npm", "a b"), ("npm", ";b"), ("npm", "#b"),
        ("pip", "'a'"), ("pip", "a\n"), ("pip", "a=b"),
    ],
)  # fmt: skip
def test_token_that_a_file_could_misread_is_refused(name: str, token: str) -> None:
    with pytest.raises(RefusedError) as error:
        file(name, f"planted{token}")

    assert (error.value.reason, "planted" in error.value.message) == ("InvalidSpec", False)


@pytest.mark.parametrize("name", ["pip", "npm", "maven"])
def test_source_token_is_not_an_endpoint_password(name: str) -> None:
    with pytest.raises(RefusedError, match="RFC 6750 does not allow"):
        rendered({name: {}}, values=replace(VALUES, access_token=None))


@pytest.mark.parametrize("url", ["https://h/a b/", "https://h/a\n[x]", "ftp://h/", "https://u:p@h/", "https://h/?a"])
def test_endpoint_that_is_not_a_plain_url_is_refused(url: str) -> None:
    values = replace(VALUES, package_endpoints=(PackageEndpoint("pypi", "main", url),))

    with pytest.raises(RefusedError, match="repository main is not a plain URL"):
        rendered({"pip": {}}, values=values)


@pytest.fixture(scope="module")
def pip_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The path of the configuration file that pip reads."""
    pytest.importorskip("pip", reason="pip is not installed")
    path = tmp_path_factory.mktemp("pip") / "pip.conf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_CONFIG_FILE", str(path))
        yield path


@settings(max_examples=30)
@given(token=BEARER_TOKENS)
def test_pip_reads_the_token_back(pip_conf: Path, token: str) -> None:
    configuration = importlib.import_module("pip._internal.configuration")
    misc = importlib.import_module("pip._internal.utils.misc")
    pip_conf.write_text(file("pip", token))
    loaded = configuration.Configuration(isolated=False)
    loaded.load()
    url, _, login = misc.split_auth_netloc_from_url(loaded.get_value("global.index-url"))

    assert (url, login) == (f"https://{HOST}/pypi/main/simple/", ("aws", token))


@settings(max_examples=50)
@given(token=BEARER_TOKENS)
def test_configparser_reads_the_token_back(token: str) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(file("pip", token))
    url = urlsplit(parser["global"]["index-url"])

    assert (url.username, unquote(url.password or ""), url.hostname) == ("aws", token, HOST)


@settings(max_examples=50)
@given(token=BEARER_TOKENS)
def test_line_reader_reads_the_npmrc_back(token: str) -> None:
    lines = dict(line.split("=", 1) for line in file("npm", token).splitlines())

    assert lines == {"registry": f"https://{HOST}/npm/main/", f"//{HOST}/npm/main/:_authToken": token}


@settings(max_examples=2)
@given(tokens=st.lists(BEARER_TOKENS, min_size=20, max_size=60))
def test_npm_reads_the_token_back(tmp_path_factory: pytest.TempPathFactory, tokens: list[str]) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("Node and npm are not installed")
    directory, root = tmp_path_factory.mktemp("npm"), Path(npm).resolve().parents[1]
    for number, token in enumerate(tokens):
        scope = {"scope": "@acme"} if number % 2 else {}
        (directory / f"{number:03}").write_text(file("npm", token, **scope))
    done = subprocess.run(
        [node, NPM_READER, root, directory],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )

    registry = f"https://{HOST}/npm/main/"
    assert json.loads(done.stdout) == [{"registry": registry, "token": token} for token in tokens]


@settings(max_examples=50)
@given(token=BEARER_TOKENS, server=SERVER_IDS)
def test_xml_parser_reads_the_settings_back(token: str, server: str) -> None:
    root = ET.fromstring(file("maven", token, serverId=server))  # noqa: S314 - trusted input

    def text(path: str) -> str | None:
        return root.findtext("/".join(f"{MAVEN}{tag}" for tag in path.split("/")))

    repository = "profiles/profile/repositories/repository"
    assert [text(f"servers/server/{tag}") for tag in ("id", "username", "password")] == [server, "aws", token]
    assert [text(f"{repository}/{tag}") for tag in ("id", "url")] == [server, f"https://{HOST}/maven/main/"]
    plugins = "profiles/profile/pluginRepositories/pluginRepository"
    assert [text(f"{plugins}/{tag}") for tag in ("id", "url")] == [server, f"https://{HOST}/maven/main/"]
    assert text("profiles/profile/id") == text("activeProfiles/activeProfile") == server


PUBLIC_LOGIN = RegistryLogin("public.ecr.aws", "AWS", "b3RoZXI=", NOW + HOUR)
DOCKER_KEY = ".dockerconfigjson"
HOSTS = st.from_regex(r"[a-z0-9.-]{1,60}(:[0-9]{1,5})?", fullmatch=True)


def rendered_logins(*logins: RegistryLogin) -> dict[str, str]:
    return rendered({"dockerConfigJson": {}}, values=replace(VALUES, registry_logins=logins))


def test_docker_config_equals_the_one_kubectl_writes() -> None:
    command = ("create", "secret", "docker-registry", "it", f"--docker-server={REGISTRY}", "--docker-username=AWS")
    more = (f"--docker-password={LOGIN.password}", "--dry-run=client", "--output=json")
    output = subprocess.run([binary("kubectl"), *command, *more], capture_output=True, check=True).stdout
    expected = json.loads(base64.b64decode(json.loads(output)["data"][DOCKER_KEY]))

    assert json.loads(rendered_logins(LOGIN)[DOCKER_KEY]) == expected


def test_docker_config_of_two_registries_expires_with_the_first() -> None:
    data = rendered_logins(LOGIN, PUBLIC_LOGIN)

    assert list(json.loads(data[DOCKER_KEY])["auths"]) == [REGISTRY, "public.ecr.aws"]
    assert data["expiration"] == "2026-01-02T04:04:05Z"


def test_login_is_written_for_more_hosts() -> None:
    data = rendered_logins(replace(LOGIN, more_hosts=("127.0.0.1:5000", "public.ecr.aws")))
    auths = json.loads(data[DOCKER_KEY])["auths"]

    assert list(auths) == [REGISTRY, "127.0.0.1:5000", "public.ecr.aws"]
    assert auths[REGISTRY] == auths["127.0.0.1:5000"] == auths["public.ecr.aws"]


def test_own_login_of_a_host_wins_over_that_of_another_registry() -> None:
    data = rendered_logins(replace(LOGIN, more_hosts=("public.ecr.aws",)), PUBLIC_LOGIN)

    assert json.loads(data[DOCKER_KEY])["auths"]["public.ecr.aws"]["password"] == PUBLIC_LOGIN.password


@pytest.mark.parametrize("key", [".dockerconfigjson", ".dockercfg"])
def test_template_of_registry_logins_must_be_json(key: str) -> None:
    text = '{"auths": {"h": {"username": "AWS", "password": "{{ registryPassword }}"}}}'

    assert json.loads(rendered(template(text, key))[key])["auths"]["h"]["password"] == LOGIN.password
    with pytest.raises(RefusedError, match=f"the text for key {key} is not a JSON object") as error:
        rendered(template("{{ registryPassword }}", key))
    assert (error.value.reason, LOGIN.password in error.value.message) == ("InvalidSpec", False)


def test_last_login_of_a_host_wins() -> None:
    data = rendered_logins(replace(LOGIN, password="b2xk", expires_at=NOW), LOGIN)

    assert json.loads(data[DOCKER_KEY])["auths"][REGISTRY]["password"] == LOGIN.password
    assert data["expiration"] == "2026-01-02T15:04:05Z"


@settings(max_examples=30)
@given(st.dictionaries(HOSTS, SAFE_TEXTS, min_size=1, max_size=5))
def test_json_reader_reads_every_password_back(passwords: dict[str, str]) -> None:
    data = rendered_logins(*(RegistryLogin(host, "AWS", password, NOW) for host, password in passwords.items()))
    auths = json.loads(data[DOCKER_KEY])["auths"]

    assert {host: auth["password"] for host, auth in auths.items()} == passwords
    assert {host: base64.b64decode(auth["auth"]).decode() for host, auth in auths.items()} == {
        host: f"AWS:{password}" for host, password in passwords.items()
    }


def test_unsafe_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(RefusedError, match=f"the password of {REGISTRY} is empty or ") as error:
        rendered_logins(replace(LOGIN, password='a"b'))

    assert 'a"b' not in error.value.message
