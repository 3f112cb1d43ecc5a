import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.api.formats.template import NAMES
from keyturn.core.errors import RefusedError
from keyturn.core.formats.registry import expiry
from keyturn.core.pipeline_values import PipelineValues, Token
from tests.support.dependencies import HOUR, MINUTE, NOW, signed
from tests.support.manifest_text import writing
from tests.support.manifests.parts import template
from tests.support.pipeline_values import ENDPOINTS, HELD, HOST, LOGIN, REGISTRY, rendered

ALL = replace(
    HELD,
    package_endpoints=ENDPOINTS[:1],
    identity_context=signed(expires=NOW + 5 * MINUTE),
    token_id="token-1",
    identity_id="us-east-1:1234",
)
PLAIN = st.from_regex(r"[-A-Za-z0-9._~+/=:,@]+", fullmatch=True)


def filled(text: str, held: PipelineValues = ALL) -> str:
    return rendered(template(text), held=held)["file"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accessToken", "access=="),
        ("idToken", "id.token"),
        ("identityContext", ALL.identity_context),
        ("tokenId", "token-1"),
        ("accessKeyId", "ASIA1"),
        ("secretAccessKey", "secret/key+"),
        ("sessionToken", "session=="),
        ("principal", "arn:aws:sts::111122223333:assumed-role/Reports/me@example.com"),
        ("registryHost", REGISTRY),
        ("registryUsername", "AWS"),
        ("registryPassword", "cGFzcw=="),
        ("packageEndpoint", f"https://{HOST}/pypi/main/"),
        ("identityId", "us-east-1:1234"),
        ("region", "us-east-1"),
    ],
)
def test_a_name_becomes_its_value(name: str, value: str) -> None:
    assert filled(f"a{{{{ {name} }}}}b{{{{{name}}}}}") == f"a{value}b{value}"


def test_every_name_has_a_value() -> None:
    text = "\n".join(f"{{{{ {name} }}}}" for name in NAMES)

    assert all(filled(text).split("\n"))


def test_all_else_stays_as_it_is() -> None:
    assert filled('{"a": {"b": "{{ accessToken }}"}}\n $x \\1 }} {') == '{"a": {"b": "access=="}}\n $x \\1 }} {'


def test_what_is_empty_is_missing() -> None:
    held = replace(ALL, credentials=replace(ALL.credentials, session_token=None))  # type: ignore[type-var]

    with pytest.raises(RefusedError, match="a template names sessionToken, and the exchanges do not give it"):
        filled("{{ sessionToken }}", held)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        pytest.param("accessToken", PipelineValues(Token("source")), id="only a source token"),
        pytest.param("idToken", PipelineValues(access_token=Token("a")), id="no ID token"),
        pytest.param("identityContext", PipelineValues(access_token=Token("a")), id="no identity context"),
        pytest.param("accessKeyId", PipelineValues(), id="no credentials"),
        pytest.param("registryHost", PipelineValues(), id="no login"),
        pytest.param("registryHost", replace(HELD, registry_logins=(LOGIN, replace(LOGIN, host="b"))), id="two"),
        pytest.param("packageEndpoint", HELD, id="four endpoints"),
        pytest.param("identityId", PipelineValues(), id="no identity"),
        pytest.param("expiration", PipelineValues(), id="no end"),
    ],
)
def test_what_was_not_given_is_named(name: str, held: PipelineValues) -> None:
    with pytest.raises(RefusedError, match=f"a template names {name}, and the exchanges do not give") as refused:
        filled(f"{{{{ {name} }}}}", held)

    assert refused.value.reason == "InvalidSpec"


@pytest.mark.parametrize("value", ["{{idToken}}", "'b", " b", "$a", "\nb", "<a>", "#b", ";b", "`a`", '"', "\\"])
def test_a_value_that_would_need_an_escape_is_refused(value: str) -> None:
    with pytest.raises(RefusedError, match=r"^the value of accessToken has characters that") as refused:
        filled("{{ accessToken }}", replace(ALL, access_token=Token(f"planted{value}")))

    assert (refused.value.reason, "planted" in refused.value.message) == ("SourceInvalid", False)


@pytest.mark.parametrize(
    ("formats", "ends"),
    [
        pytest.param([template("{{ accessToken }}")], NOW + 30 * MINUTE, id="an access token"),
        pytest.param([template("{{ idToken }}{{ accessKeyId }}")], NOW + 20 * MINUTE, id="the earlier of two"),
        pytest.param([template("{{ identityContext }}")], NOW + 5 * MINUTE, id="an identity context"),
        pytest.param([template("{{ sessionToken }}")], NOW + HOUR, id="a session"),
        pytest.param([template("{{ registryPassword }}")], NOW + 12 * HOUR, id="a login"),
        pytest.param([template("{{ principal }}{{ packageEndpoint }}")], None, id="what does not end"),
        pytest.param([template("{{ expiration }}"), {"env": {}}], NOW + HOUR, id="another format"),
        pytest.param([template("{{ idToken }}"), {"env": {}}], NOW + 20 * MINUTE, id="before another format"),
    ],
)
def test_expiry_is_the_earliest_of_what_is_named(formats: list[dict[str, Any]], ends: object) -> None:
    assert expiry(writing(*formats).spec.formats, ALL) == ends


def test_the_expiration_is_the_one_of_the_secret() -> None:
    data = rendered(template("{{ expiration }}"), {"token": {}}, {"env": {}}, held=ALL)

    assert data["file"] == data["expiration"] == "2026-01-02T03:34:05Z"


@settings(max_examples=30, deadline=None)
@given(PLAIN, st.sampled_from(["'{}'", '"{}"', "{}"]))
def test_a_shell_reads_its_file_back(value: str, quotes: str) -> None:
    text = "export WANTED=" + quotes.format("x{{ accessToken }}") + "\n"
    read = filled(text, replace(ALL, access_token=Token(value))) + 'printf %s "$WANTED"'
    done = subprocess.run(["sh"], input=read, capture_output=True, text=True, check=True, env={})

    assert (done.stdout, done.stderr) == (f"x{value}", "")


@given(PLAIN)
def test_json_reads_its_file_back(value: str) -> None:
    text = filled('{"a": {"b": "{{ accessToken }}"}}', replace(ALL, access_token=Token(value)))

    assert json.loads(text) == {"a": {"b": value}}
