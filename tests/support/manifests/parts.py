"""Parts of specs, as changes to the default manifest."""

from typing import Any

from tests.support.dependencies import ACCESS_TOKEN, REFRESH, ROLE

SESSION: dict[str, Any] = {"getSessionToken": {}}


def role(**changes: Any) -> dict[str, Any]:
    return {"exchanges": [ACCESS_TOKEN, {"assumeRoleWithWebIdentity": {"roleArn": ROLE} | changes}]}


def formats(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"target": {"formats": list(choices)}}


def template(text: str, key: str = "file") -> dict[str, Any]:
    return {"template": {"key": key, "text": text}}


def config(**options: Any) -> dict[str, Any]:
    """awsConfig with the credentialProcess that it requires."""
    return formats({"credentialProcess": {}}, {"awsConfig": options})


def labels(**by_key: str) -> dict[str, Any]:
    return {"target": {"metadata": {"labels": {key.replace("__", "/"): value for key, value in by_key.items()}}}}


def annotation(key: str) -> dict[str, Any]:
    return {"target": {"metadata": {"annotations": {key: "x"}}}}


def source_token(name: str = "license", key: str = "license_token") -> dict[str, Any]:
    return {"source": {"token": {"secretKeyRef": {"name": name, "key": key}}}}


def with_source_token(**more: Any) -> dict[str, Any]:
    return {"source": {"token": {"secretKeyRef": {"name": "license", "key": "license_token"}} | more}}


def with_user_keys(*exchanges: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A source with the access keys of an IAM user."""
    source = {"credentials": {"secretRef": {"name": "base"}}}
    return {"source": source, "exchanges": list(exchanges) or [SESSION]} | spec


def assume(**changes: Any) -> dict[str, Any]:
    return {"assumeRole": {"roleArn": ROLE} | changes}


def session(seconds: int) -> dict[str, Any]:
    return {"getSessionToken": {"durationSeconds": seconds}}


def refresh(**changes: Any) -> dict[str, Any]:
    fields = REFRESH["oauthToken"] | changes
    return {"exchanges": [{"oauthToken": {key: value for key, value in fields.items() if value is not None}}]}


def token_url(url: str) -> dict[str, Any]:
    return refresh(tokenUrl=url)


def secret_at(name: str, key: str = "client_secret") -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def renewal(before: str, seconds: int | None = None) -> dict[str, Any]:
    return {"renewal": {"renewBefore": before}} | (role(durationSeconds=seconds) if seconds else {})
