"""Where an SDK finds the AWS identity of its pod or instance: the EKS Pod Identity agent and instance metadata."""

import secrets
from typing import Any

from aiohttp import web

from tests.support.emulator.call_handler import STATE
from tests.support.emulator.constants import ACCOUNT
from tests.support.emulator.service import Call
from tests.support.emulator.state import State
from tests.support.emulator.sts import start_session

_SECONDS = 6 * 3600
# https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html; all of them are transitive.
POD_TAGS = {
    "eks-cluster-arn": f"arn:aws:eks:eu-west-1:{ACCOUNT}:cluster/prod",
    "eks-cluster-name": "prod",
    "kubernetes-namespace": "keyturn",
    "kubernetes-service-account": "keyturn",
    "kubernetes-pod-name": "keyturn-7d9f8b6c5d-x2x4z",
    "kubernetes-pod-uid": "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
}
_METADATA = "/latest/meta-data/iam/security-credentials/"


def add_routes(app: web.Application) -> None:
    """Add the agent's endpoint, and those of instance metadata (IMDSv2)."""
    app.router.add_get("/v1/credentials", _pod_identity)
    app.router.add_put("/latest/api/token", _metadata_token)
    app.router.add_get(_METADATA, _role_name)
    app.router.add_get(f"{_METADATA}{{role}}", _instance_credentials)


async def _pod_identity(request: web.Request) -> web.Response:
    state = request.app[STATE]
    if state.pod_identity is None or not request.headers.get("Authorization"):
        raise web.HTTPNotFound
    tags = {} if state.pod_identity.disable_session_tags else POD_TAGS
    session = _session(state, state.pod_identity.role_arn, "pods.eks.amazonaws.com", "eks-prod-keyturn", tags)
    return web.json_response({**session, "AccountId": ACCOUNT})


async def _metadata_token(_: web.Request) -> web.Response:
    return web.Response(text=secrets.token_urlsafe(32))


async def _role_name(request: web.Request) -> web.Response:
    arn = request.app[STATE].instance_role
    if not (arn and request.headers.get("X-aws-ec2-metadata-token")):
        raise web.HTTPNotFound
    return web.Response(text=arn.rpartition("/")[2])


async def _instance_credentials(request: web.Request) -> web.Response:
    state = request.app[STATE]
    session = _session(state, state.instance_role, "ec2.amazonaws.com", "i-0123456789abcdef0", {})
    return web.json_response({"Code": "Success", "Type": "AWS-HMAC", **session})


def _session(state: State, role_arn: str, service: str, name: str, tags: dict[str, str]) -> dict[str, Any]:
    """Start a session of a role that trusts the service, with transitive tags."""
    role = state.roles.get(role_arn)
    actions = ("sts:AssumeRole", "sts:TagSession") if tags else ("sts:AssumeRole",)
    context = {f"aws:RequestTag/{key}": [value] for key, value in tags.items()}
    if role is None or not all(role.trust_policy.allows(it, {"Service": {service}}, context) for it in actions):
        raise web.HTTPBadRequest(text="AccessDeniedException")
    call = Call(state, {}, None, state.now(), state.settings.region)
    keys = start_session(call, role.session(name, transitive_tags=tags), _SECONDS)
    expiration = keys.pop("Expiration").strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**keys, "Token": keys.pop("SessionToken"), "Expiration": expiration}
