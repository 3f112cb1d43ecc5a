import json
from collections.abc import Iterator
from typing import Any

import pytest

from keyturn.api.base import InvalidSpecError
from keyturn.api.token_request import TokenRequest, parse
from keyturn.cli.check.field_errors import field_errors
from tests.support.cases import cases
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH, manifest
from tests.support.manifests import MANIFESTS, NAMES

CODE_ARTIFACT = {"codeArtifactGetAuthorizationToken": {"domain": "acme"}}


def errors(body: dict[str, Any]) -> list[str]:
    return [f"{message} (at {path})" if path else message for message, path in field_errors(TokenRequest, body)]


@pytest.mark.parametrize("name", NAMES)
def test_first_error_of_the_operator_is_among_all_errors(name: str) -> None:
    body, _ = MANIFESTS[name]
    try:
        parse(body)
        first = ""
    except InvalidSpecError as error:
        first = error.message.partition(" (at ")[0]

    messages = [problem.message for problem in field_errors(TokenRequest, body)]

    assert any(message.startswith(first) for message in messages) if first else messages == []


def test_step_with_two_exchanges_causes_no_other_error() -> None:
    step = ACCESS_TOKEN | {"ecrGetAuthorizationToken": {}}
    body = manifest(exchanges=[ASSUME_ROLE, step], target={"formats": [{"dockerConfigJson": {}}]})

    (error,) = errors(body)
    assert error.startswith("exactly one of licenseManagerGetAccessToken, ")


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not value or not children:
        yield path
    for key, child in children:
        yield from _leaves(child, (*path, key))


@pytest.mark.parametrize("name", [name for name in NAMES if MANIFESTS[name][1] is None])
def test_invalid_value_causes_no_other_error(name: str) -> None:
    text = json.dumps(MANIFESTS[name][0])
    for *parents, last in _leaves(json.loads(text)["spec"], ("spec",)):
        body = parent = json.loads(text)
        for step in parents:
            parent = parent[step]
        parent[last] = "x" if isinstance(parent[last], list) else ["x"]

        assert len(errors(body)) == 1, (*parents, last)


@cases(
    "spec, messages",
    {
        "wrong types in several places": (
            {
                "region": 7,
                "exchanges": [{"assumeRoleWithWebIdentity": {"roleArn": [], "durationSeconds": 60}}],
                "suspend": "yes",
            },
            [
                "region must be text: put quotes around the value (at spec.region)",
                "roleArn must be of type string, not array (at spec.exchanges[0].assumeRoleWithWebIdentity.roleArn)",
                "durationSeconds must be at least 900 (at spec.exchanges[0].assumeRoleWithWebIdentity.durationSeconds)",
                "suspend must be of type boolean, not string (at spec.suspend)",
            ],
        ),
        "rules of a part and of the whole": (
            {
                "region": None,
                "exchanges": [{"oauthToken": REFRESH["oauthToken"] | {"keyId": "k"}}, CODE_ARTIFACT],
                "target": {"formats": [{"env": {}}, {"env": {}}]},
            },
            [
                (
                    "keyId, algorithm, clientAssertion and clientCertificateFrom require clientKeyFrom"
                    " (at spec.exchanges[0].oauthToken)"
                ),
                "two formats write the same key: set a different `key` on one of them (at spec.target)",
                "region is missing: set spec.region, or region in each AWS exchange (at spec)",
                (
                    "credentials are missing: set source.credentials, or put an exchange that produces credentials"
                    " before the exchange that requires them (at spec)"
                ),
                (
                    "formats that contain credentials require one of these exchanges: identityCenterGetRoleCredentials,"
                    " assumeRoleWithWebIdentity, assumeRole, getSessionToken, getFederationToken, cognitoGetCredentials"
                    " (at spec)"
                ),
            ],
        ),
        "a value that a rule needs, and a broken rule": (
            {"renewal": {"renewBefore": "soon"}, "region": None},
            [
                (
                    "renewBefore must be a duration in hours, minutes and seconds, such as 1h30m"
                    " (at spec.renewal.renewBefore)"
                ),
                "region is missing: set spec.region, or region in each AWS exchange (at spec)",
            ],
        ),
        "entries of a map": (
            {"target": {"metadata": {"labels": {"team": 5, "b": "a b", "c": "d"}}}},
            [
                "each of labels must be text: put quotes around the value (at spec.target.metadata.labels.team)",
                (
                    "each of labels must be empty, or letters, digits, '-', '_' and '.', with a letter or digit at the"
                    " start and at the end (at spec.target.metadata.labels.b)"
                ),
            ],
        ),
        "a list that is empty": ({"exchanges": []}, ["exchanges must have at least 1 item (at spec.exchanges)"]),
    },
)
def test_all_errors_are_reported(spec: dict[str, Any], messages: list[str]) -> None:
    assert errors(manifest(**spec)) == messages


@cases(
    "spec, messages",
    {
        "a field whose value is checked too": (
            {"exchanges": None, "exchange": [{"oauth_token": REFRESH["oauthToken"] | {"keyID": 5}}]},
            [
                "unknown field `exchange`: did you mean `exchanges`? (at spec.exchange)",
                "unknown field `oauth_token`: did you mean `oauthToken`? (at spec.exchange[0].oauth_token)",
                "unknown field `keyID`: did you mean `keyId`? (at spec.exchange[0].oauth_token.keyID)",
                "keyID must be text: put quotes around the value (at spec.exchange[0].oauth_token.keyID)",
                (
                    "keyId, algorithm, clientAssertion and clientCertificateFrom require clientKeyFrom"
                    " (at spec.exchange[0].oauth_token)"
                ),
            ],
        ),
        "the start of a field, and a field with an ending": (
            {"target": {"deletion": "Retain", "metadataOfSecret": {}}},
            [
                "unknown field `deletion`: did you mean `deletionPolicy`? (at spec.target.deletion)",
                "unknown field `metadataOfSecret`: did you mean `metadata`? (at spec.target.metadataOfSecret)",
            ],
        ),
        "a field that is set too": ({"exchange": []}, ["unknown field `exchange` (at spec.exchange)"]),
        "a field like no other": ({"colour": "red"}, ["unknown field `colour` (at spec.colour)"]),
        "a key that is no text": ({"suspend": None, 1: 2}, ["unknown field `1` (at spec.1)"]),
    },
)
def test_unknown_field_has_a_suggestion(spec: dict[Any, Any], messages: list[str]) -> None:
    body = manifest()
    body["spec"] = {key: value for key, value in (body["spec"] | spec).items() if value is not None}

    assert errors(body) == messages
