"""Sources of the emulator's user, and the check that credentials from a Secret work."""

import json
from collections.abc import Mapping

import boto3

from tests.support.cluster.namespace import Namespace
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, USER_KEY_ID, USER_SECRET_KEY, trust_policy

USER_KEYS = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
# A source that reads USER_KEYS from the Secret "keys".
KEYS_SOURCE = {"credentials": {"secretRef": {"name": "keys"}}}
CODE_VERIFIER = "verifier-of-forty-three-characters-or-more-"
APP_ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/App"


def caller_arn(data: Mapping[str, str], aws: Emulator) -> str:
    """Call sts:GetCallerIdentity with the credentials in a Secret's data; returns the ARN."""
    client = boto3.client(
        "sts",
        region_name=data.get("AWS_REGION", "us-east-1"),
        endpoint_url=aws.url,
        aws_access_key_id=data["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=data["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=data["AWS_SESSION_TOKEN"],
    )
    arn: str = client.get_caller_identity()["Arn"]
    return arn


def service_account_issuer(plane: ControlPlane) -> str:
    """Return the issuer of the cluster's service account tokens."""
    issuer: str = json.loads(plane.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    return issuer


def trust_service_account(aws: Emulator, namespace: Namespace) -> None:
    """Let the service account "app" of a namespace assume APP_ROLE_ARN."""
    issuer = service_account_issuer(namespace.plane)
    aws.trust_issuer(
        issuer, json.loads(namespace.plane.kubectl("get", "--raw", "/openid/v1/jwks")), "sts.amazonaws.com"
    )
    host, subject = issuer.removeprefix("https://"), f"system:serviceaccount:{namespace.name}:app"
    condition = {"StringEquals": {f"{host}:aud": "sts.amazonaws.com", f"{host}:sub": subject}}
    provider = {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"}
    policy = trust_policy(provider, "sts:AssumeRoleWithWebIdentity", condition)
    aws.control("POST", "roles", arn=APP_ROLE_ARN, trust_policy=policy)
