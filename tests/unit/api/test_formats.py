from typing import Any, get_args

import pytest

from keyturn.api.base import Kind
from keyturn.api.formats.registry import DEFAULT_FORMATS, FORMATS
from keyturn.api.formats.template import PLACEHOLDER, TemplateFormat
from keyturn.api.token_request import DOCKER, DOCKER_LEGACY, OPAQUE
from tests.support.dependencies import request
from tests.support.manifest_text import with_formats
from tests.support.manifests.parts import template


def test_formats_have_default_keys_and_kinds() -> None:
    assert {options.KEY for options in FORMATS.values()} == {
        *("AWS_ACCESS_KEY_ID", "credentials.json", "credentials", "token", "web_identity_token", "config"),
        *(".dockerconfigjson", "pip.conf", ".npmrc", "settings.xml", ""),
    }
    assert {kind for options in FORMATS.values() for kind in options.WRITES} == set(get_args(Kind))


@pytest.mark.parametrize(
    ("text", "names", "kinds"),
    [
        pytest.param("plain {a", (), (), id="no placeholder"),
        pytest.param("{{ region }}{{expiration }}", ("region", "expiration"), (), id="names without a kind"),
        pytest.param("{{ principal }}{{principal}}", ("principal",), ("credentials",), id="a name twice"),
        pytest.param(
            "{{ idToken }}{{ accessToken }}{{ registryHost }}",
            ("idToken", "accessToken", "registryHost"),
            ("token", "registryLogins"),
            id="two names of a kind",
        ),
    ],
)
def test_template_has_the_names_and_kinds_of_its_placeholders(
    text: str, names: tuple[str, ...], kinds: tuple[str, ...]
) -> None:
    template = TemplateFormat(key="file", text=text)

    assert (template.names, template.kinds) == (names, kinds)


def test_placeholders_of_a_template_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    class Placeholder:
        @staticmethod
        def findall(text: str) -> list[str]:
            searched.append(text)
            return PLACEHOLDER.findall(text)

    monkeypatch.setattr("keyturn.api.formats.template.PLACEHOLDER", Placeholder)
    texts = [f"key {number}: {{{{ accessKeyId }}}}" for number in range(8)]
    request(target={"formats": [template(text, f"{number}") for number, text in enumerate(texts)]})

    assert searched == texts


def test_default_format_of_registry_logins() -> None:
    assert [choice.name for choice in DEFAULT_FORMATS["registryLogins"]] == ["dockerConfigJson"]


@pytest.mark.parametrize(
    ("formats", "kind"),
    [
        pytest.param([{"env": {}}, {"token": {}}], OPAQUE, id="files"),
        pytest.param([{"token": {}}, {"dockerConfigJson": {}}], DOCKER, id="files and registry logins"),
        pytest.param([{"token": {"key": ".dockerconfigjson"}}], OPAQUE, id="only a key with that name"),
        pytest.param([{"env": {}}, template("{}", ".dockerconfigjson")], DOCKER, id="a template of registry logins"),
        pytest.param([template("{}", ".dockercfg")], DOCKER_LEGACY, id="a template in the earlier syntax"),
        pytest.param(
            [template("a", key) for key in ("tls.crt", "tls.key", "ssh-privatekey", "username", "password")],
            OPAQUE,
            id="templates of other types",
        ),
    ],
)
def test_secret_type_follows_the_formats(formats: list[dict[str, Any]], kind: str) -> None:
    assert with_formats(*formats).spec.secret_type == kind
