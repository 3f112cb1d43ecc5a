import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.source_reader import ServiceAccounts
from keyturn.core.errors import BeingDeletedError, RefusedError
from tests.support.api_server import ApiServer
from tests.support.cases import cases

PATH = "POST /api/v1/namespaces/billing/serviceaccounts/app/token"
USER = "system:serviceaccount:billing:app"
ARGUMENTS = ("billing", "app", ("sts.amazonaws.com",), 3600)


class Server(ApiServer):
    """An API server that issues tokens and authenticates any of them as `user`."""

    def __init__(self, user: str = "") -> None:
        super().__init__()
        self.user, self.reviews = user, 0
        self.responses[PATH] = ApiResponse(201, {"status": {"token": "planted"}})

    async def user_of(self, token: str) -> str:  # noqa: ARG002 - any token
        self.reviews += 1
        return self.user


async def test_token_is_requested() -> None:
    assert await ServiceAccounts(Server()).make_token(*ARGUMENTS) == "planted"


async def test_audience_is_checked_once() -> None:
    server = Server()
    accounts = ServiceAccounts(server)
    for _ in range(3):
        await accounts.make_token(*ARGUMENTS)
    await accounts.make_token("billing", "app", ("vault",), 3600)

    assert (server.reviews, server.count("POST")) == (2, 4)


async def test_token_that_the_api_server_accepts_is_refused() -> None:
    accounts = ServiceAccounts(Server(USER))
    for _ in range(2):
        with pytest.raises(
            RefusedError, match=r"accepts tokens for sts.*: set the audiences of serviceAccount .*sources\.audiences"
        ) as refused:
            await accounts.make_token(*ARGUMENTS)

        assert refused.value.reason == "IdentityNotAllowed"
        assert "planted" not in refused.value.message


async def test_audience_is_checked_for_each_service_account() -> None:
    """The ServiceAccount of a tenant is deleted before its token is verified, so the API server refuses the token."""
    server = Server("")
    server.responses[PATH.replace("billing", "tenant")] = server.responses[PATH]
    accounts = ServiceAccounts(server)
    await accounts.make_token("tenant", *ARGUMENTS[1:])
    server.user = USER

    with pytest.raises(RefusedError, match="accepts tokens for sts"):
        await accounts.make_token(*ARGUMENTS)


async def test_review_that_returns_another_user_is_ignored() -> None:
    assert await ServiceAccounts(Server("system:admin")).make_token(*ARGUMENTS) == "planted"


@cases(
    "response, reason, message",
    {
        "account missing": (ApiResponse(404, {}), "SourceNotFound", "ServiceAccount app does not exist"),
        "right missing": (
            ApiResponse(403, {"message": "forbidden"}),
            "SourceForbidden",
            (
                "no token could be requested for ServiceAccount app: forbidden; the operator needs the right to create"
                " serviceaccounts/token in namespace billing; the chart grants it if rbac.serviceAccountTokens is set,"
                " only for rbac.serviceAccountTokenNames if that is set"
            ),
        ),
        "refused": (
            ApiResponse(422, {"message": "too short"}),
            "SourceNotFound",
            "no token could be requested for ServiceAccount app: too short",
        ),
    },
)
async def test_refused_token_request_is_reported(response: ApiResponse, reason: str, message: str) -> None:
    server = Server()
    server.responses[PATH] = response
    with pytest.raises(RefusedError) as refused:
        await ServiceAccounts(server).make_token(*ARGUMENTS)

    assert (refused.value.reason, refused.value.message) == (reason, message)


async def test_terminating_namespace_is_no_missing_right() -> None:
    server = Server()
    server.responses[PATH] = ApiResponse(403, {"details": {"causes": [{"reason": "NamespaceTerminating"}]}})
    with pytest.raises(BeingDeletedError):
        await ServiceAccounts(server).make_token(*ARGUMENTS)


async def test_checked_audiences_are_bounded() -> None:
    server = Server()
    accounts = ServiceAccounts(server)
    for number in (*range(1025), 1024, 0):
        await accounts.make_token("billing", "app", (f"audience-{number}",), 3600)

    assert server.reviews == 1026  # the first one was forgotten
