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
from tests.support.manifest_text import with_formats
from tests.support.manifests.parts import template
from tests.support.pipeline_values import ENDPOINTS, HOST, LOGIN, REGISTRY, VALUES, rendered

ALL = replace(
    VALUES,
    package_endpoints=ENDPOINTS[:1],
    identity_context=signed(expires=NOW + 5 * MINUTE),
    token_id="token-1",
    identity_id="us-east-1:1234",
)
PLAIN = st.from_regex(r"[-A-Za-z0-9._~+/=:,@]+", fullmatch=True)


def filled(text: str, values: PipelineValues = ALL) -> str:
    return rendered(template(text), values=values)["file"]


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
def test_name_is_replaced_with_its_value(name: str, value: str) -> None:
    assert filled(f"a{{{{ {name} }}}}b{{{{{name}}}}}") == f"a{value}b{value}"


def test_every_documented_name_has_a_value() -> None:
    text = "\n".join(f"{{{{ {name} }}}}" for name in NAMES)

    assert all(filled(text).split("\n"))


def test_other_text_is_unchanged() -> None:
    assert filled('{"a": {"b": "{{ accessToken }}"}}\n $x \\1 }} {') == '{"a": {"b": "access=="}}\n $x \\1 }} {'


def test_empty_value_counts_as_missing() -> None:
    values = replace(ALL, credentials=replace(ALL.credentials, session_token=None))  # type: ignore[type-var]

    with pytest.raises(RefusedError, match="a template uses sessionToken, but the exchanges do not provide it"):
        filled("{{ sessionToken }}", values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param("accessToken", PipelineValues(Token("source")), id="only a source token"),
        pytest.param("idToken", PipelineValues(access_token=Token("a")), id="no ID token"),
        pytest.param("identityContext", PipelineValues(access_token=Token("a")), id="no identity context"),
        pytest.param("accessKeyId", PipelineValues(), id="no credentials"),
        pytest.param("registryHost", PipelineValues(), id="no login"),
        pytest.param("registryHost", replace(VALUES, registry_logins=(LOGIN, replace(LOGIN, host="b"))), id="two"),
        pytest.param("packageEndpoint", VALUES, id="four endpoints"),
        pytest.param("identityId", PipelineValues(), id="no identity"),
        pytest.param("expiration", PipelineValues(), id="nothing expires"),
    ],
)
def test_missing_value_is_refused_by_name(name: str, values: PipelineValues) -> None:
    with pytest.raises(RefusedError, match=f"a template uses {name}, but the exchanges do not provide") as error:
        filled(f"{{{{ {name} }}}}", values)

    assert error.value.reason == "InvalidSpec"


@pytest.mark.parametrize(
    "value", ["{{idToken}}", "'b", " b", "$a", "\nb", "<a>", "#b", ";b", "`a`", '"', "\\", "!b", "|b", "é"]
)
def test_value_that_needs_escaping_is_refused(value: str) -> None:
    with pytest.raises(RefusedError) as error:
        filled("{{ accessToken }}", replace(ALL, access_token=Token(f"planted{value}")))

    assert error.value.reason == "InvalidSpec"
    assert error.value.message == (
        "the template for key file cannot be rendered: the value of accessToken contains characters that a template"
        " would have to escape; use the format token, which writes the token as it is"
    )


@pytest.mark.parametrize("token", ["00D!AQ.a", "a|b", 'a"b', "a\\b", "a b", "a'b", "{{a}}", "$(a)", "<a>", "a;b#c"])
def test_format_token_writes_what_a_template_refuses(token: str) -> None:
    assert rendered({"token": {}}, values=replace(ALL, access_token=Token(token)))["token"] == token


@pytest.mark.parametrize("token", ["plantedé", "planted\nb", "planted\x00", "planted ", " planted"])
def test_format_token_refuses_what_oauth_does_not_allow(token: str) -> None:
    with pytest.raises(RefusedError, match="RFC 6749 does not allow") as error:
        rendered({"token": {}}, values=replace(ALL, access_token=Token(token)))

    assert (error.value.reason, "planted" in error.value.message) == ("InvalidSpec", False)


@pytest.mark.parametrize(
    ("formats", "expires_at"),
    [
        pytest.param([template("{{ accessToken }}")], NOW + 30 * MINUTE, id="an access token"),
        pytest.param([template("{{ idToken }}{{ accessKeyId }}")], NOW + 20 * MINUTE, id="the earlier of two"),
        pytest.param([template("{{ identityContext }}")], NOW + 5 * MINUTE, id="an identity context"),
        pytest.param([template("{{ sessionToken }}")], NOW + HOUR, id="a session"),
        pytest.param([template("{{ registryPassword }}")], NOW + 12 * HOUR, id="a login"),
        pytest.param([template("{{ principal }}{{ packageEndpoint }}")], None, id="values without an expiry"),
        pytest.param([template("{{ expiration }}"), {"env": {}}], NOW + HOUR, id="another format"),
        pytest.param([template("{{ idToken }}"), {"env": {}}], NOW + 20 * MINUTE, id="before another format"),
    ],
)
def test_expiry_is_the_earliest_of_the_named_values(formats: list[dict[str, Any]], expires_at: object) -> None:
    assert expiry(with_formats(*formats).spec.formats, ALL) == expires_at


def test_expiration_in_the_text_is_the_expiry_of_the_secret() -> None:
    data = rendered(template("{{ expiration }}"), {"token": {}}, {"env": {}}, values=ALL)

    assert data["file"] == data["expiration"] == "2026-01-02T03:34:05Z"


@settings(max_examples=10)
@given(PLAIN, st.sampled_from(["'{}'", '"{}"', "{}"]))
def test_shell_reads_the_value_back(value: str, quotes: str) -> None:
    text = "export VALUE=" + quotes.format("x{{ accessToken }}") + "\n"
    script = filled(text, replace(ALL, access_token=Token(value))) + 'printf %s "$VALUE"'
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True, env={})

    assert (done.stdout, done.stderr) == (f"x{value}", "")


@settings(max_examples=50)
@given(PLAIN)
def test_json_parser_reads_the_value_back(value: str) -> None:
    text = filled('{"a": {"b": "{{ accessToken }}"}}', replace(ALL, access_token=Token(value)))

    assert json.loads(text) == {"a": {"b": value}}
