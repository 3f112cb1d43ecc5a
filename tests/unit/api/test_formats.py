from typing import Any, get_args

import pytest

from keyturn.api.base import Kind
from keyturn.api.formats.registry import FORMATS, FormatSpec
from keyturn.api.formats.template import TemplateFormat
from keyturn.api.token_request import DOCKER, OPAQUE
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, request
from tests.support.manifest_text import writing


def test_every_format_tells_its_key_and_kinds_of_value() -> None:
    assert {one.KEY for one in FORMATS.values()} == {
        *("AWS_ACCESS_KEY_ID", "credentials.json", "credentials", "token", "web_identity_token", "config"),
        *(".dockerconfigjson", "pip.conf", ".npmrc", "settings.xml", ""),
    }
    assert {kind for one in FORMATS.values() for kind in one.WRITES} == set(get_args(Kind))


@pytest.mark.parametrize(
    ("text", "names", "holds"),
    [
        pytest.param("plain {a", (), (), id="no name"),
        pytest.param("{{ region }}{{expiration }}", ("region", "expiration"), (), id="names of no kind"),
        pytest.param("{{ principal }}{{principal}}", ("principal",), ("credentials",), id="a name twice"),
        pytest.param(
            "{{ idToken }}{{ accessToken }}{{ registryHost }}",
            ("idToken", "accessToken", "registryHost"),
            ("token", "registryLogins"),
            id="two names of a kind",
        ),
    ],
)
def test_what_a_template_names(text: str, names: tuple[str, ...], holds: tuple[str, ...]) -> None:
    made = TemplateFormat(key="file", text=text)

    assert (made.names, made.holds) == (names, holds)


@pytest.mark.parametrize(
    ("exchanges", "names"),
    [
        pytest.param([ACCESS_TOKEN, ASSUME_ROLE], ["env", "credentialProcess"], id="credentials"),
        pytest.param([ASSUME_ROLE, ACCESS_TOKEN], ["token"], id="a token after credentials"),
    ],
)
def test_by_default_the_last_value_is_written(exchanges: list[dict[str, Any]], names: list[str]) -> None:
    assert [one.name for one in request(exchanges=exchanges).spec.formats] == names


def test_a_registry_login_is_written_for_docker_by_default() -> None:
    assert [one.name for one in FormatSpec.DEFAULTS["registryLogins"]] == ["dockerConfigJson"]


@pytest.mark.parametrize(
    ("formats", "kind"),
    [
        pytest.param([{"env": {}}, {"token": {}}], OPAQUE, id="files"),
        pytest.param([{"token": {}}, {"dockerConfigJson": {}}], DOCKER, id="files, and registry logins"),
        pytest.param([{"token": {"key": ".dockerconfigjson"}}], OPAQUE, id="only a key of that name"),
    ],
)
def test_the_type_of_the_secret(formats: list[dict[str, Any]], kind: str) -> None:
    assert writing(*formats).spec.secret_type == kind
