"""The Secret in the operator's own namespace with the keys that sign issuance records."""

import asyncio
import base64
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from keyturn.controller.api_client import ApiClient, ApiResponse, secrets_path
from keyturn.core.errors import KeyturnError, LeaseLostError, UnavailableError
from keyturn.core.issuance import IssuanceKeys

_RETRY_SECONDS, _LOG_INTERVAL_SECONDS, _CHECK_SECONDS = 5.0, 60.0, 60.0
_KEY_BYTES = 32
_Keys = Annotated[dict[Annotated[int, Meta(ge=1, lt=10**9)], Annotated[bytes, Meta(min_length=16)]], Meta(min_length=1)]
_DESCRIPTION = "Signs Keyturn's issuance records. Include it in backups, and restore it before Keyturn starts."
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class IssuanceKeySecret:
    """Reads the keys and, if the Secret does not exist, creates it with a new key.

    A new key is created only after a 404: with it no record verifies, and every TokenRequest is renewed. `problem` is
    why the keys cannot be used yet, and is empty once they can be.
    """

    def __init__(self, api: ApiClient, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self.problem = "the issuance key has not been read yet"

    async def wait(self) -> None:
        """Wait until the Secret can be read or does not exist: a process that cannot read it must not lead."""
        await self._retry(self._read)

    async def load(self) -> IssuanceKeys:
        """Wait until the keys can be read or created, and return them. Only the process that holds the Lease calls it.

        Without leader election, two processes may call it at the same time: the second POST fails, and both read.
        """
        return await self._retry(self._read_or_create)

    async def keep(self, keys: IssuanceKeys) -> None:
        """Write the keys back if the Secret is deleted, and log if its data are invalid, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                # Raises an error if the data are invalid: this process does not need them, but the next leader will.
                if await self._read():
                    continue
                _log.warning("%s was deleted; recreating it from memory", self._what)
                response = await self._create(keys.keys)
                if response.is_error and response.status != HTTPStatus.CONFLICT:
                    _log.warning("%s could not be recreated: %s", self._what, response.message)
            except (KeyturnError, LeaseLostError) as error:
                _log.warning("%s could not be checked: %s", self._what, error)
            except Exception as bug:  # noqa: BLE001 - nothing that is read ends the process
                _log.error("%s could not be checked: %s", self._what, type(bug).__name__)

    async def _retry(self, read: Callable[[], Awaitable[_Result]]) -> _Result:
        """Call `read` until it succeeds, and return its result."""
        logged, logged_at = "", 0.0
        while True:
            try:
                result = await read()
            except KeyturnError as error:
                now = asyncio.get_running_loop().time()
                self.problem = f"{self._what}: {error}"
                if self.problem != logged or now - logged_at >= _LOG_INTERVAL_SECONDS:
                    _log.error("not ready: %s", self.problem)
                    logged, logged_at = self.problem, now
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.problem = ""
                return result

    async def _read_or_create(self) -> IssuanceKeys:
        keys = await self._read()
        if keys:
            return keys
        response = await self._create({1: secrets.token_bytes(_KEY_BYTES)})
        if response.is_error and response.status != HTTPStatus.CONFLICT:
            raise _failure(response, "create secrets")
        # Read what was stored: a conflict means that another process has just created it.
        keys = await self._read()
        if keys is None:
            raise UnavailableError("Unavailable", "the Secret was created but does not exist")
        _log.info("created %s", self._what)
        return keys

    async def _read(self) -> IssuanceKeys | None:
        response = await self._get()
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        if response.is_error:
            raise _failure(response, f"get the Secret {self._name}")
        try:
            return IssuanceKeys(msgspec.json.decode(response.body.get("data") or b"{}", type=_Keys))
        except msgspec.ValidationError as error:
            # Not replaced by a new key: somebody may have made a mistake while adding one.
            problem = "its data needs at least one key: each key is a number, and each value at least 16 random bytes"
            raise UnavailableError("Unavailable", f"{problem} ({error})") from None

    async def _get(self) -> ApiResponse:
        return await self._api.request("GET", secrets_path(self._namespace, self._name))

    async def _create(self, keys: Mapping[int, bytes]) -> ApiResponse:
        # Without labels: the watches of Secrets select by label, and must not include this one.
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._name, "annotations": {"kubernetes.io/description": _DESCRIPTION}},
            "data": {str(number): base64.b64encode(key).decode() for number, key in keys.items()},
        }
        # Not an apply, which would replace the keys that another process has created.
        return await self._api.request("POST", secrets_path(self._namespace), body)

    @property
    def _what(self) -> str:
        return f"the issuance key in Secret {self._namespace}/{self._name}"


def _failure(response: ApiResponse, right: str) -> UnavailableError:
    if response.status == HTTPStatus.FORBIDDEN:
        return UnavailableError("Unavailable", f"the operator lacks the right to {right}: {response.message}")
    return UnavailableError("Unavailable", response.message)
