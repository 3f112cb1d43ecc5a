from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from keyturn.api.base import EXPECTATION, InvalidSpecError
from keyturn.api.token_request import TokenRequest, parse
from keyturn.api.validation import validation_message
from keyturn.cli.check.objects import ObjectMeta
from keyturn.core.settings import Settings, parse_settings
from tests.support.cases import cases
from tests.support.dependencies import ROLE, manifest
from tests.support.manifests.clients import assertion
from tests.support.manifests.parts import labels, refresh


def _patterns(kind: type) -> Iterator[dict[str, Any]]:
    pending: list[Any] = [msgspec.json.schema_components((kind,), ref_template="{name}")]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending += node.values()
            if isinstance(node.get("pattern"), str):
                yield node
        elif isinstance(node, list | tuple):
            pending += node


@pytest.mark.parametrize("kind", [TokenRequest, Settings, ObjectMeta], ids=lambda kind: kind.__name__)
def test_every_pattern_has_an_expectation_in_words(kind: type) -> None:
    patterns = list(_patterns(kind))

    assert patterns
    assert [node["pattern"] for node in patterns if not node.get(EXPECTATION)] == []


@cases(
    "spec, message",
    {
        "a pattern": (
            refresh(tokenUrl="https://me@issuer.example/?code=planted"),
            (
                "tokenUrl must be an https URL without a user name and a fragment, such as"
                " https://issuer.example.com/oauth2/token (at spec.exchanges[0].oauthToken.tokenUrl)"
            ),
        ),
        "a pattern of an item": (
            refresh(scope=["a", "b c"]),
            (
                "each of scope must be printable ASCII characters without spaces, double quotes and backslashes"
                " (at spec.exchanges[0].oauthToken.scope[1])"
            ),
        ),
        "a pattern of a value in a map": (
            labels(team="a b"),
            (
                "each of labels must be empty, or letters, digits, '-', '_' and '.', with a letter"
                " or digit at the start and at the end"
                " (at spec.target.metadata.labels[...])"
            ),
        ),
        "an enum": (
            refresh(clientAuthentication='of my "own"\'s\n'),
            (
                'Unsupported value: "of my \\"own\\"\'s\\n": supported values:'
                ' "client_secret_basic", "client_secret_post",'
                ' "none", "private_key_jwt" (at spec.exchanges[0].oauthToken.clientAuthentication)'
            ),
        ),
        "an enum with a long value": (
            {"target": {"deletionPolicy": "x" * 1000}},
            f'Unsupported value: "{"x" * 64}": supported values: "Delete", "Retain" (at spec.target.deletionPolicy)',
        ),
        "a length of a key in a map": (
            labels(**{"x" * 318: "1"}),
            "each key of labels must have at most 317 characters (at spec.target.metadata.labels)",
        ),
        "a length": (
            refresh(scope=["a"] * 65),
            "scope must have at most 64 items (at spec.exchanges[0].oauthToken.scope)",
        ),
        "a number of one": ({"exchanges": []}, "exchanges must have at least 1 item (at spec.exchanges)"),
        "a bound": (
            {"exchanges": [{"assumeRoleWithWebIdentity": {"roleArn": ROLE, "durationSeconds": 60}}]},
            "durationSeconds must be at least 900 (at spec.exchanges[0].assumeRoleWithWebIdentity.durationSeconds)",
        ),
        "a list for a text": (
            assertion(audience=["https://issuer.example/"]),
            ("audience must be of type string, not array (at spec.exchanges[0].oauthToken.clientAssertion.audience)"),
        ),
        "a text for a list": (
            refresh(audience="https://api.example/"),
            "audience must be a list: put brackets around the value (at spec.exchanges[0].oauthToken.audience)",
        ),
        "a number for a list": (
            {"exchanges": [{"ecrGetAuthorizationToken": {"registryIds": 111122223333}}]},
            (
                "registryIds must be a list: put quotes and brackets around the value"
                " (at spec.exchanges[0].ecrGetAuthorizationToken.registryIds)"
            ),
        ),
        "a text for a list of objects": (
            {"target": {"formats": "env"}},
            "formats must be a list, but is of type string (at spec.target.formats)",
        ),
        "an object for a list": (
            refresh(scope={"openid": None}),
            "scope must be a list, but is of type object (at spec.exchanges[0].oauthToken.scope)",
        ),
        "a type": ({"suspend": "yes"}, "suspend must be of type boolean, not string (at spec.suspend)"),
    },
)
def test_invalid_value_is_reported_in_words(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError) as error:
        parse(manifest(**spec))

    assert error.value.message == message


@cases(
    "settings, message",
    {
        "a key of a map": (
            {"aws": {"endpoints": {"STS": "http://127.0.0.1"}}},
            (
                "each key of endpoints must be the name of a service, or service/region, such as sts or"
                " sts/eu-west-1 (at aws.endpoints)"
            ),
        ),
        "a value of a map": (
            {"aws": {"endpoints": {"sts": "ftp://x"}}},
            (
                "each of endpoints must be an http or https URL without a user name, a query and a fragment, such as"
                " https://sts.example.com (at aws.endpoints[...])"
            ),
        ),
        "an item": (
            {"issuers": {"allowedHosts": ["issuer.example", "*.example"]}},
            (
                "each of allowedHosts must be the name or the IP address of one host, such as"
                " issuer.example.com, in lower case and ASCII"
                " (xn--...), without a scheme, a port and wildcards (at issuers.allowedHosts[1])"
            ),
        ),
        "a type": ([], "must be of type object, not array"),
        "a rule": (
            {"issuers": {"proxy": "http://p"}},
            "proxy needs allowedHosts: a proxy resolves host names, so addresses cannot be checked (at issuers)",
        ),
    },
)
def test_invalid_setting_is_reported_in_words(settings: Any, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        parse_settings(settings)

    assert validation_message(error.value, Settings) == message
