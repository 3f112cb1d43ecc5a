import pytest

from keyturn.controller.api_client import ApiResponse
from keyturn.controller.service_account_tokens import ServiceAccounts
from keyturn.core.errors import RefusedError, UnavailableError
from tests.support.api_server import ApiServer

PATH = "POST /api/v1/namespaces/billing/serviceaccounts/app/token"
USER = "system:serviceaccount:billing:app"
ASKED = ("billing", "app", ("sts.amazonaws.com",), 3600)


class Server(ApiServer):
    """An API server that makes tokens, and takes the bearer of any for `user`."""

    def __init__(self, user: str = "") -> None:
        super().__init__()
        self.user, self.looked_at = user, 0
        self.responses[PATH] = ApiResponse(201, {"status": {"token": "planted"}})

    async def user_of(self, token: str) -> str:  # noqa: ARG002 - any token
        self.looked_at += 1
        return self.user


async def test_a_token_is_made() -> None:
    assert await ServiceAccounts(Server()).make_token(*ASKED) == "planted"


async def test_whether_the_api_server_takes_it_is_asked_once() -> None:
    server = Server()
    accounts = ServiceAccounts(server)
    for _ in range(3):
        await accounts.make_token(*ASKED)
    await accounts.make_token("billing", "app", ("vault",), 3600)

    assert (server.looked_at, server.count("POST")) == (2, 4)


async def test_a_token_that_the_api_server_takes_is_not_handed_on() -> None:
    accounts = ServiceAccounts(Server(USER))
    for _ in range(2):
        with pytest.raises(RefusedError, match="the API server itself takes tokens for sts") as refused:
            await accounts.make_token(*ASKED)

        assert refused.value.reason == "IdentityNotAllowed"
        assert "planted" not in refused.value.message


async def test_a_client_certificate_proves_nothing_about_the_token() -> None:
    assert await ServiceAccounts(Server("system:admin")).make_token(*ASKED) == "planted"


@pytest.mark.parametrize(
    ("response", "says"),
    [
        pytest.param(ApiResponse(404, {}), "ServiceAccount app does not exist", id="no such account"),
        pytest.param(
            ApiResponse(403, {"message": "forbidden"}),
            r"gives no token: forbidden; the chart gives this right by rbac\.serviceAccountTokens and"
            r" serviceAccountTokenNames$",
            id="no right",
        ),
        pytest.param(ApiResponse(422, {"message": "too short"}), "gives no token: too short$", id="refused"),
    ],
)
async def test_what_is_refused(response: ApiResponse, says: str) -> None:
    server = Server()
    server.responses[PATH] = response
    with pytest.raises(RefusedError, match=says) as refused:
        await ServiceAccounts(server).make_token(*ASKED)

    assert refused.value.reason == "SourceNotFound"


async def test_no_answer_is_not_the_end() -> None:
    server = Server()
    server.responses[PATH] = UnavailableError("Unreachable", "gone")
    with pytest.raises(UnavailableError):
        await ServiceAccounts(server).make_token(*ASKED)
