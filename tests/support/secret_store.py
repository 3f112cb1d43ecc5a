"""A Secret store against an in-memory API server, with paths and an issuance record."""

import time
from collections.abc import Callable
from typing import Any

from keyturn.api.token_request import Request
from keyturn.controller.secret_store import SecretStore
from keyturn.core.issuance import Issuance, data_hash
from tests.support.api_server import ApiServer
from tests.support.dependencies import request
from tests.support.issuance import ISSUANCE
from tests.support.issuance_keys import KEYS

SECRETS = "/api/v1/namespaces/billing/secrets"
TARGET, SOURCE = f"{SECRETS}/acme", f"{SECRETS}/license"
TOKEN_REQUEST = "/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/acme"

REQUEST = request()
DATA = {"token": "planted-token", "expiration": "2026-01-02T04:04:05Z"}


def issuance(token_request: Request = REQUEST, **changes: Any) -> Issuance:
    fields = {name: getattr(ISSUANCE, name) for name in ISSUANCE.__struct_fields__}
    hashes = {name: getattr(token_request, name) for name in ("request_hash", "exchange_hash", "metadata_hash")}
    return Issuance(
        **fields | hashes | {"uid": token_request.uid, "data_hash": data_hash(DATA, token_request)} | changes
    )


def cluster(monotonic: Callable[[], float] = time.monotonic) -> tuple[ApiServer, SecretStore]:
    server = ApiServer()
    server.put(TOKEN_REQUEST)
    server.objects[TOKEN_REQUEST]["metadata"]["uid"] = REQUEST.uid
    return server, SecretStore(server, KEYS, monotonic)


async def issued(token_request: Request = REQUEST) -> tuple[ApiServer, SecretStore]:
    server, store = cluster()
    await store.write(token_request, issuance(token_request), DATA)
    server.requests.clear()
    return server, store
