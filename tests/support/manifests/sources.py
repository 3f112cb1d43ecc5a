"""Specs with sources that the operator lends: those that are taken, and those that are refused."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH
from tests.support.manifests.parts import assume, secret_at

_ONE_TOKEN = "exactly one of secretKeyRef, serviceAccount must be set"
_ONE_KEYS = "exactly one of secretRef, ambient must be set"
_AMBIENT = "ambient credentials can be used only if the first exchange is assumeRole without roleSessionName"
_OUR_TAGS = "with ambient credentials Keyturn sets the tags kubernetes-namespace and kubernetes-name"


def account(*exchanges: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "source": {"token": {"serviceAccount": {"name": "app"} | changes}},
        "exchanges": list(exchanges) or [ASSUME_ROLE],
    }


def ambient(*exchanges: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"source": {"credentials": {"ambient": {}}} | more, "exchanges": list(exchanges) or [assume()]}


def tagged(*keys: str) -> dict[str, Any]:
    return ambient(assume(tags=[{"key": key, "value": ""} for key in keys]))


GOOD: dict[str, dict[str, Any]] = {
    "a service account": account(),
    "a service account with all that can be said": account(
        name="app.v2", audiences=["sts.amazonaws.com", "https://a.example/b", "c", "d"], expirationSeconds=86400
    ),
    "a service account whose name is the target's": account(name="acme"),
    "the operator's own identity": ambient(),
    "the operator's own identity, and a role of a role": ambient(assume(), assume(durationSeconds=3600)),
    "the operator's own identity, with 48 tags": tagged(*(f"k{n}" for n in range(48))),
    "the operator's own identity beside a token": ambient(
        assume(), ACCESS_TOKEN, token={"secretKeyRef": {"name": "license", "key": "license_token"}}
    ),
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a token from nowhere": ({"source": {"token": {}}}, _ONE_TOKEN),
    "a token from two places": (
        {"source": {"token": secret_at("license") | {"serviceAccount": {"name": "app"}}}},
        _ONE_TOKEN,
    ),
    "a service account's token that is kept": (
        {"source": {"token": {"serviceAccount": {"name": "app"}, "saveTo": {"secretName": "kept"}}}},
        "saveTo requires secretKeyRef",
    ),
    "a service account's token that is spent": (account(REFRESH), "grantType refresh_token uses source.token"),
    "a service account with a capital": (account(name="App"), "serviceAccount.name"),
    "a service account without a name": ({"source": {"token": {"serviceAccount": {}}}}, "name"),
    "a service account of another namespace": (account(namespace="kube-system"), "unknown field"),
    "no audiences": (account(audiences=[]), "serviceAccount.audiences"),
    "five audiences": (account(audiences=list("abcde")), "serviceAccount.audiences"),
    "an empty audience": (account(audiences=[""]), "serviceAccount.audiences[0]"),
    "an audience with a space": (account(audiences=["a b"]), "serviceAccount.audiences[0]"),
    "a service account's token for 9 minutes": (account(expirationSeconds=599), "expirationSeconds"),
    "a service account's token for over a day": (account(expirationSeconds=86401), "expirationSeconds"),
    "credentials from nowhere": ({"source": {"credentials": {}}, "exchanges": [assume()]}, _ONE_KEYS),
    "credentials from two places": (
        {"source": {"credentials": {"ambient": {}, "secretRef": {"name": "base"}}}, "exchanges": [assume()]},
        _ONE_KEYS,
    ),
    "the operator's own identity itself": (ambient({"ecrGetAuthorizationToken": {}}), _AMBIENT),
    "the operator's own identity for a session": (ambient({"getSessionToken": {}}), _AMBIENT),
    "the operator's own identity in the second place": (
        ambient(ACCESS_TOKEN, assume(), token={"secretKeyRef": {"name": "license", "key": "license_token"}}),
        _AMBIENT,
    ),
    "the operator's own identity under another name": (ambient(assume(roleSessionName="admin")), _AMBIENT),
    "the operator's own identity with a way": (
        {"source": {"credentials": {"ambient": {"roleArn": "x"}}}, "exchanges": [assume()]},
        "unknown field",
    ),
    "the operator's own identity for another namespace": (tagged("kubernetes-namespace"), _OUR_TAGS),
    "the operator's own identity for another name": (tagged("Kubernetes-Name"), _OUR_TAGS),
    "the operator's own identity with 49 tags": (tagged(*(f"k{n}" for n in range(49))), _OUR_TAGS),
}
