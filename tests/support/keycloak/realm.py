"""A realm of Keycloak, and what a test creates in it with the Admin REST API."""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from typing import Any

from tests.support.emulator.oauth.client import HttpResponse, send


@dataclass(frozen=True, slots=True)
class AdminApi:
    """Keycloak's Admin REST API, as its administrator."""

    url: str
    ca: str
    password: str = field(repr=False)

    def get(self, path: str) -> Any:
        return self._request("GET", path, {})

    def post(self, path: str, **representation: Any) -> None:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self.password}
        token = send(f"{self.url}/realms/master/protocol/openid-connect/token", self.ca, form)["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._request("POST", path, headers, json.dumps(representation))

    def _request(self, method: str, path: str, headers: dict[str, str], body: str = "") -> Any:
        host = self.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, timeout=30, context=ssl.create_default_context(cadata=self.ca))
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status not in (200, 201):
            raise AssertionError(f"{method} {path}: {response.status} {text}")
        return json.loads(text) if text else None


@dataclass(frozen=True, slots=True)
class Realm:
    admin: AdminApi
    name: str

    @property
    def issuer(self) -> str:
        return f"{self.admin.url}/realms/{self.name}"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/protocol/openid-connect/token"

    def create_client(self, client_id: str, **representation: Any) -> None:
        """Create a client (ClientRepresentation) that may use its service account and passwords of users."""
        grants = {"serviceAccountsEnabled": True, "directAccessGrantsEnabled": True}
        self._create("clients", clientId=client_id, **grants | representation)

    def create_user(self, name: str, password: str) -> None:
        """Create a user who may sign in at once."""
        credentials = [{"type": "password", "value": password, "temporary": False}]
        profile = {"email": f"{name}@example.com", "emailVerified": True, "firstName": name, "lastName": name}
        self._create("users", username=name, enabled=True, credentials=credentials, **profile)

    def create_identity_provider(self, alias: str, provider: str, **config: str) -> None:
        """Trust another issuer; `provider` is its type, such as kubernetes or oidc."""
        self._create("identity-provider/instances", alias=alias, providerId=provider, enabled=True, config=config)

    def request_token(self, **form: str) -> HttpResponse:
        """Send a form to the token endpoint."""
        return send(self.token_url, self.admin.ca, form)

    def _create(self, kind: str, **representation: Any) -> None:
        self.admin.post(f"/admin/realms/{self.name}/{kind}", **representation)
