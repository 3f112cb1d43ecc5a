"""Specs with ServiceAccount tokens and ambient credentials."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH
from tests.support.manifests.parts import assume, secret_at


def account(*exchanges: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "source": {"token": {"serviceAccount": {"name": "app"} | changes}},
        "exchanges": list(exchanges) or [ASSUME_ROLE],
    }


def ambient(*exchanges: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"source": {"credentials": {"ambient": {}}} | more, "exchanges": list(exchanges) or [assume()]}


def with_tags(*keys: str) -> dict[str, Any]:
    return ambient(assume(tags=[{"key": key, "value": ""} for key in keys]))


GOOD: dict[str, dict[str, Any]] = {
    "ServiceAccount": account(),
    "ServiceAccount with all fields": account(
        name="app.v2", audiences=["sts.amazonaws.com", "https://a.example/b", "c", "d"], expirationSeconds=86400
    ),
    "ServiceAccount with the name of the target": account(name="acme"),
    "ambient credentials": ambient(),
    "ambient credentials and role chaining": ambient(assume(), assume(durationSeconds=3600)),
    "ambient credentials with 48 tags": with_tags(*(f"k{n}" for n in range(48))),
    "ambient credentials and a token": ambient(
        assume(), ACCESS_TOKEN, token={"secretKeyRef": {"name": "license", "key": "license_token"}}
    ),
}

BAD: dict[str, dict[str, dict[str, Any]]] = {
    "exactly one of secretKeyRef, serviceAccount must be set": {
        "empty token": {"source": {"token": {}}},
        "token from two sources": {"source": {"token": secret_at("license") | {"serviceAccount": {"name": "app"}}}},
    },
    "saveTo requires secretKeyRef": {
        "saveTo for a ServiceAccount": {
            "source": {"token": {"serviceAccount": {"name": "app"}, "saveTo": {"secretName": "retained"}}}
        }
    },
    "grantType refresh_token sends source.token": {"refresh_token grant with a ServiceAccount token": account(REFRESH)},
    "serviceAccount.name": {"ServiceAccount with a capital letter": account(name="App")},
    "name": {"ServiceAccount without a name": {"source": {"token": {"serviceAccount": {}}}}},
    "unknown field": {
        "ServiceAccount of another namespace": account(namespace="kube-system"),
        "ambient credentials with a field": {
            "source": {"credentials": {"ambient": {"roleArn": "x"}}},
            "exchanges": [assume()],
        },
    },
    "serviceAccount.audiences": {
        "empty audiences": account(audiences=[]),
        "empty audience": account(audiences=[""]),
        "audience with a space": account(audiences=["a b"]),
    },
    "expirationSeconds": {
        "ServiceAccount token for 9 minutes": account(expirationSeconds=599),
        "ServiceAccount token for over a day": account(expirationSeconds=86401),
    },
    "exactly one of secretRef, ambient must be set": {
        "empty credentials": {"source": {"credentials": {}}, "exchanges": [assume()]},
        "credentials from two sources": {
            "source": {"credentials": {"ambient": {}, "secretRef": {"name": "base"}}},
            "exchanges": [assume()],
        },
    },
    "ambient credentials can be used only if the first exchange is assumeRole without roleSessionName": {
        "ambient credentials without a role": ambient({"ecrGetAuthorizationToken": {}}),
        "ambient credentials for a session": ambient({"getSessionToken": {}}),
        "ambient credentials for the second exchange": ambient(
            ACCESS_TOKEN, assume(), token={"secretKeyRef": {"name": "license", "key": "license_token"}}
        ),
        "ambient credentials with roleSessionName": ambient(assume(roleSessionName="admin")),
    },
    "with ambient credentials Keyturn sets the tags kubernetes-namespace and kubernetes-name": {
        "ambient credentials with the tag kubernetes-namespace": with_tags("kubernetes-namespace"),
        "ambient credentials with the tag kubernetes-name": with_tags("Kubernetes-Name"),
        "ambient credentials with 49 tags": with_tags(*(f"k{n}" for n in range(49))),
    },
}
