"""Tokens of service accounts for audiences other than the API server."""

from http import HTTPStatus

from keyturn.controller.api_client import ApiClient
from keyturn.core.errors import RefusedError

_HINT = "; allow it with the chart's rbac.serviceAccountTokens and serviceAccountTokenNames"


class ServiceAccounts:
    """Requests tokens of service accounts, and checks once per audience that the API server does not accept them."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._checked: set[tuple[str, ...]] = set()

    async def make_token(self, namespace: str, name: str, audiences: tuple[str, ...], seconds: int) -> str:
        """Request a token (the token subresource of a ServiceAccount).

        Raises RefusedError: SourceNotFound if the ServiceAccount does not exist or may not be used, and
        IdentityNotAllowed if the API server accepts the token itself: it would give access to the cluster.
        """
        spec = {"audiences": list(audiences), "expirationSeconds": seconds}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        response = await self._api.request("POST", path, body)
        if not response.found:
            raise RefusedError("SourceNotFound", f"ServiceAccount {name} does not exist")
        if response.refused:
            hint = _HINT if response.status == HTTPStatus.FORBIDDEN else ""
            raise RefusedError("SourceNotFound", f"no token for ServiceAccount {name}: {response.message}{hint}")
        token = str(response.body["status"]["token"])
        await self._check_audience(f"system:serviceaccount:{namespace}:{name}", audiences, token)
        return token

    async def _check_audience(self, user: str, audiences: tuple[str, ...], token: str) -> None:
        if audiences in self._checked:
            return
        if await self._api.user_of(token) == user:
            raise RefusedError("IdentityNotAllowed", f"the API server itself accepts tokens for {', '.join(audiences)}")
        self._checked.add(audiences)
