from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.emulator.boto import USER, Boto
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, ROLE_ARN, trust_policy
from tests.support.emulator.fixtures import aws, shared_emulator

__all__ = ["aws", "shared_emulator"]


@pytest.fixture(scope="session")
def boto(shared_emulator: Emulator) -> Iterator[Boto]:
    with closing(Boto(shared_emulator.url)) as boto:
        yield boto


@pytest.fixture
def assume(aws: Emulator, boto: Boto) -> Callable[..., Any]:
    """Call AssumeRole with these keys, by default those of the user."""

    def assume(keys: dict[str, Any] = USER, **changes: Any) -> Any:
        params = {"RoleArn": ACCOUNT_ROLE_ARN, "RoleSessionName": "demo", **changes}
        return boto("sts", **keys).assume_role(**params)

    return assume


@pytest.fixture
def assume_with_token(aws: Emulator, boto: Boto) -> Callable[..., Any]:
    """Call AssumeRoleWithWebIdentity, by default with a License Manager token."""

    def assume(refresh_token: str = "", **changes: Any) -> Any:
        params = {"RoleArn": ROLE_ARN, "RoleSessionName": "demo", **changes}
        if "WebIdentityToken" not in params:
            token = refresh_token or aws.refresh_token()
            params["WebIdentityToken"] = boto("license-manager").get_access_token(Token=token)["AccessToken"]
        return boto("sts").assume_role_with_web_identity(**params)

    return assume


@pytest.fixture
def new_role(aws: Emulator) -> Callable[..., str]:
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]

    def new_role(name: str, principal: str, actions: list[str] = actions, **condition: Any) -> str:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        policy = trust_policy({"AWS": principal}, actions, condition)
        aws.control("POST", "roles", arn=arn, trust_policy=policy, max_session_seconds=43200)
        return arn

    return new_role
