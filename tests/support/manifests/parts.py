"""Parts of specs, each a change of the flagship."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, REFRESH, ROLE

SESSION: dict[str, Any] = {"getSessionToken": {}}


def role(**changes: Any) -> dict[str, Any]:
    return {"exchanges": [ACCESS_TOKEN, {"assumeRoleWithWebIdentity": {"roleArn": ROLE} | changes}]}


def formats(*wanted: dict[str, Any]) -> dict[str, Any]:
    return {"target": {"formats": list(wanted)}}


def template(text: str, key: str = "file") -> dict[str, Any]:
    return {"template": {"key": key, "text": text}}


def config(**options: Any) -> dict[str, Any]:
    """An awsConfig beside the file that it names."""
    return formats({"credentialProcess": {}}, {"awsConfig": options})


def labels(**wanted: str) -> dict[str, Any]:
    return {"target": {"metadata": {"labels": {key.replace("__", "/"): value for key, value in wanted.items()}}}}


def annotation(key: str) -> dict[str, Any]:
    return {"target": {"metadata": {"annotations": {key: "x"}}}}


def token_of(name: str = "license", key: str = "license_token") -> dict[str, Any]:
    return {"source": {"token": {"secretKeyRef": {"name": name, "key": key}}}}


def of_token(**more: Any) -> dict[str, Any]:
    return {"source": {"token": {"secretKeyRef": {"name": "license", "key": "license_token"}} | more}}


def of_user(*exchanges: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The keys of a user as the source."""
    source = {"credentials": {"secretRef": {"name": "base"}}}
    return {"source": source, "exchanges": list(exchanges) or [SESSION]} | spec


def assume(**changes: Any) -> dict[str, Any]:
    return {"assumeRole": {"roleArn": ROLE} | changes}


def session(seconds: int) -> dict[str, Any]:
    return {"getSessionToken": {"durationSeconds": seconds}}


def refresh(**changes: Any) -> dict[str, Any]:
    asked = REFRESH["oauthToken"] | changes
    return {"exchanges": [{"oauthToken": {key: value for key, value in asked.items() if value is not None}}]}


def at(url: str) -> dict[str, Any]:
    return refresh(tokenUrl=url)


def secret_at(name: str, key: str = "client_secret") -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def renewal(before: str, seconds: int | None = None) -> dict[str, Any]:
    return {"renewal": {"renewBefore": before}} | (role(durationSeconds=seconds) if seconds else {})
