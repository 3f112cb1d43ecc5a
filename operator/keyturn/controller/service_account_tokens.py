"""Service accounts: tokens that are made for somebody else than the API server."""

from http import HTTPStatus

from keyturn.controller.api_client import ApiClient
from keyturn.core.errors import RefusedError

_RIGHT = "; the chart gives this right by rbac.serviceAccountTokens and serviceAccountTokenNames"


class ServiceAccounts:
    """Makes tokens of service accounts. Which audiences are not the API server's own is asked once."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._elsewhere: set[tuple[str, ...]] = set()

    async def make_token(self, namespace: str, name: str, audiences: tuple[str, ...], seconds: int) -> str:
        """Ask for a token (the token subresource of a ServiceAccount).

        Raises RefusedError: SourceNotFound where there is no such ServiceAccount or it may not be used, and
        IdentityNotAllowed where the API server takes such a token for its own: it would open the cluster.
        """
        spec = {"audiences": list(audiences), "expirationSeconds": seconds}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        response = await self._api.request("POST", path, body)
        if not response.found:
            raise RefusedError("SourceNotFound", f"ServiceAccount {name} does not exist")
        if response.refused:
            hint = _RIGHT if response.status == HTTPStatus.FORBIDDEN else ""
            raise RefusedError("SourceNotFound", f"ServiceAccount {name} gives no token: {response.message}{hint}")
        token = str(response.body["status"]["token"])
        await self._check_is_for_others(f"system:serviceaccount:{namespace}:{name}", audiences, token)
        return token

    async def _check_is_for_others(self, user: str, audiences: tuple[str, ...], token: str) -> None:
        if audiences in self._elsewhere:
            return
        if await self._api.user_of(token) == user:
            raise RefusedError("IdentityNotAllowed", f"the API server itself takes tokens for {', '.join(audiences)}")
        self._elsewhere.add(audiences)
