"""In-memory API server: objects with versions, merge patches, and server-side apply of Secrets."""

import asyncio
import base64
import copy
import itertools
from collections import defaultdict
from collections.abc import Mapping, MutableMapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

import msgspec

from keyturn.controller.api_client import APPLY, JSON, MERGE, STRATEGIC, ApiClient, ApiResponse, ForbiddenError
from keyturn.controller.response_body import LIST, MAX_BYTES, Page, UnreadableBodyError
from keyturn.controller.secret_watch import SecretMeta
from keyturn.core.errors import LeaseLostError, UnavailableError

Leaf = tuple[str, str]
Body = dict[str, Any]


class ApiServer(ApiClient):
    """`requests` records the calls; `responses` replaces responses or raises errors, by method and path."""

    def __init__(self) -> None:
        self.objects: dict[str, Body] = {}
        self.requests: list[str] = []
        self.may_write = lambda _: True
        self.responses: MutableMapping[str, ApiResponse | Exception] = {}
        self._managers: defaultdict[str, dict[Leaf, set[str]]] = defaultdict(dict)
        self._numbers = itertools.count(1)

    async def request(  # noqa: PLR0913 - they are independent
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = JSON,
        query: Mapping[str, str] | None = None,
        accept: str = JSON,  # noqa: ARG002 - the whole object is returned
        should_retry: bool = True,  # noqa: ARG002 - nothing is retried
    ) -> ApiResponse:
        if method != "GET" and not self.may_write(path):
            raise LeaseLostError("the Lease is lost")
        return await self._respond(method, path, body, kind, query or {})

    async def save(self, method: str, path: str, body: object, *, query: Mapping[str, str]) -> ApiResponse:
        return await self._respond(method, path, body, MERGE if method == "PATCH" else JSON, query)

    async def _respond(self, method: str, path: str, body: object, kind: str, query: Mapping[str, str]) -> ApiResponse:
        path = path.removesuffix("/status")
        self.requests.append(f"{method} {path}")
        # Other tasks may run between request and response.
        await asyncio.sleep(0)
        override = self.responses.get(f"{method} {path}")
        if isinstance(override, Exception):
            raise override
        response = override or self._handle(method, path, msgspec.json.decode(msgspec.json.encode(body)), kind, query)
        return ApiResponse(response.status, _as_received(response.body))

    async def list_page(
        self,
        path: str,
        query: Mapping[str, str],
        limit: int = MAX_BYTES,
        *,
        accept: str = LIST,
        until_handled: AsyncExitStack | None = None,  # noqa: ARG002 - memory is not limited
    ) -> Page | None:
        response = await self.request("GET", path, query=query, accept=accept)
        if response.is_error:
            error = ForbiddenError if response.status == HTTPStatus.FORBIDDEN else UnavailableError
            raise error("Unavailable", response.message)
        start = int(query.get("continue", "0"))
        end = start + int(query["limit"])
        items = [msgspec.Raw(_go_json(item)) for item in response.body["items"]]
        if sum(len(bytes(item)) for item in items[start:end]) > limit:
            raise UnreadableBodyError(f"more than {limit} bytes")
        return Page(tuple(items[start:end]), "1", str(end) if end < len(items) else "")

    def count(self, method: str) -> int:
        return sum(line.startswith(f"{method} ") for line in self.requests)

    def put(self, path: str, **body: Any) -> SecretMeta:
        """Create or edit an object as a user does with kubectl."""
        was = self.objects.get(path, {"metadata": {"name": path.rpartition("/")[2]}})
        edited = _merged(was, body)
        for leaf, value in _leaves(edited).items():
            if _leaves(was).get(leaf) != value:
                self._managers[path][leaf] = {"kubectl-edit"}
        return self._store(path, edited)

    def delete(self, path: str) -> None:
        """Delete an object with its managedFields."""
        del self.objects[path]
        self._managers.pop(path, None)

    def meta(self, path: str) -> SecretMeta:
        """Return the metadata of an object as a watch shows them."""
        return msgspec.convert(self._shown(path)["metadata"], SecretMeta)

    def data(self, path: str) -> dict[str, str]:
        encoded = self.objects[path].get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in encoded.items()}

    def _handle(self, method: str, path: str, body: Any, kind: str, query: Mapping[str, str]) -> ApiResponse:
        if method == "POST":
            return self._post(path, body, query)
        if "fieldSelector" in query or "labelSelector" in query:
            return ApiResponse(200, {"items": [self._shown(it) for it in self._selected(path, query)], "metadata": {}})
        if method == "PATCH" and kind == APPLY:
            return self._apply(path, body, query)
        refused = self._refusal(path, body or {})
        if refused:
            return refused
        shown = self._shown(path)
        if method == "PATCH":
            return self._patch(path, _without_owners(self.objects[path], body) if kind == STRATEGIC else body, query)
        if method == "DELETE":
            self.delete(path)
        return ApiResponse(200, shown)

    def _selected(self, path: str, query: Mapping[str, str]) -> list[str]:
        if name := query.get("fieldSelector", "").removeprefix("metadata.name="):
            return [known for known in self.objects if known.endswith(f"/{path.rpartition('/')[2]}/{name}")]
        label, _, value = query["labelSelector"].partition("=")
        paths = [known for known in self.objects if known.rpartition("/")[0] == path]
        return [known for known in paths if (self.objects[known]["metadata"].get("labels") or {}).get(label) == value]

    def _patch(self, path: str, body: Body, query: Mapping[str, str]) -> ApiResponse:
        merged = _merged(self.objects[path], body)
        if merged.get("immutable") and merged.get("data") != self.objects[path].get("data"):
            return ApiResponse(422, {"message": "field is immutable when `immutable` is set"})
        if "dryRun" in query:
            return ApiResponse(200, merged)
        if "managedFields" in body["metadata"]:
            left = {fields.get("manager") for fields in merged["metadata"].pop("managedFields")}
            self._managers[path] = {leaf: names & left for leaf, names in self._managers[path].items()}
        self._store(path, merged)
        return ApiResponse(200, self._shown(path))

    def _refusal(self, path: str, body: Body) -> ApiResponse | None:
        if path not in self.objects:
            return ApiResponse(404, {"message": "not found"})
        known = self.objects[path]["metadata"]
        expected = {**body.get("metadata", {}), **body.get("preconditions", {})}
        if all(expected.get(key) in (None, known[key]) for key in ("uid", "resourceVersion")):
            return None
        return ApiResponse(409, {"message": "the object has been modified"})

    def _post(self, path: str, body: Body, query: Mapping[str, str]) -> ApiResponse:
        name = body["metadata"].get("name") or f"{body['metadata']['generateName']}{next(self._numbers)}"
        if f"{path}/{name}" in self.objects:
            return ApiResponse(409, {"message": "already exists"})
        if "dryRun" in query:
            return ApiResponse(201, body)
        self._store(f"{path}/{name}", body | {"metadata": body["metadata"] | {"name": name}})
        return ApiResponse(201, self._shown(f"{path}/{name}"))

    def _apply(self, path: str, body: Body, query: Mapping[str, str]) -> ApiResponse:
        was, applied, manager = self.objects.get(path), _leaves(body), query["fieldManager"]
        known, managers = _leaves(was or {}), self._managers[path]
        changed = {leaf for leaf, value in applied.items() if known.get(leaf, value) != value}
        has_conflict = any(managers.get(leaf, {manager}) != {manager} for leaf in changed)
        refused = was and _refused(
            was, body, {kind for kind, _ in changed}, has_conflict=has_conflict and "force" not in query
        )
        if refused:
            return refused
        if was is None and "uid" in body["metadata"]:
            return ApiResponse(409, {"message": "uid mismatch: no existing object was found"})
        status = 200 if was else 201
        if "dryRun" in query:
            return ApiResponse(status, body)
        owners = {leaf: set() if leaf in changed else managers.get(leaf, set()) - {manager} for leaf in known | applied}
        for leaf in applied:
            owners[leaf].add(manager)
        remaining = {leaf: value for leaf, value in (known | applied).items() if owners[leaf]}
        self._managers[path] = {leaf: owners[leaf] for leaf in remaining}
        self._store(
            path,
            _body(
                remaining, was or {"type": body.get("type", "Opaque"), "metadata": {"name": body["metadata"]["name"]}}
            ),
        )
        return ApiResponse(status, self._shown(path))

    def _store(self, path: str, body: Body) -> SecretMeta:
        number = next(self._numbers)
        fixed = {
            "namespace": path.split("/namespaces/")[1].split("/", maxsplit=1)[0],
            "resourceVersion": str(number),
        }
        uid = self.objects.get(path, body)["metadata"].get("uid", f"uid-{number}")
        self.objects[path] = body | {"metadata": body["metadata"] | fixed | {"uid": uid}}
        left = _leaves(self.objects[path])
        self._managers[path] = {leaf: names for leaf, names in self._managers[path].items() if leaf in left}
        return self.meta(path)

    def _shown(self, path: str) -> Body:
        shown, fields = copy.deepcopy(self.objects[path]), defaultdict[str, dict[str, Any]](dict)
        for (kind, name), managers in self._managers[path].items():
            for manager in managers:
                owned = fields[manager] if kind == "data" else fields[manager].setdefault("f:metadata", {})
                owned.setdefault(f"f:{kind}", {})[f"f:{name}"] = {}
        shown["metadata"]["managedFields"] = [
            {"manager": manager, "operation": "Apply", "fieldsV1": owned} for manager, owned in fields.items()
        ]
        return shown


def _as_received(body: Body) -> Body:
    """Return an object as ApiClient returns it, with parts that are still encoded."""
    shown = _with_raw(body, "data")
    metadata = body.get("metadata")
    return shown | ({"metadata": _with_raw(metadata, "managedFields", "ownerReferences")} if metadata else {})


def _with_raw(body: Body, *names: str) -> Body:
    return body | {name: msgspec.Raw(msgspec.json.encode(body[name])) for name in names if name in body}


def _go_json(body: Body) -> bytes:
    """Encode an object as Go does."""
    return msgspec.json.encode(body).replace(b"<", b"\\u003c")


def _refused(was: Body, body: Body, changed: set[str], *, has_conflict: bool) -> ApiResponse | None:
    """Return the error for an apply, if any; `has_conflict` is whether another manager owns one of its fields."""
    version, kind, uid = was["metadata"]["resourceVersion"], was.get("type", "Opaque"), was["metadata"]["uid"]
    if body["metadata"].get("uid", uid) != uid:
        return ApiResponse(422, {"message": "metadata.uid: field is immutable"})
    if body["metadata"].get("resourceVersion", version) != version:
        return ApiResponse(409, {"message": "the object has been modified"})
    if was.get("immutable") and "data" in changed:
        return ApiResponse(422, {"message": "field is immutable when `immutable` is set"})
    if has_conflict:
        return ApiResponse(409, {"message": "Apply failed with 1 conflict"})
    if body.get("type", kind) != kind:
        return ApiResponse(422, {"message": "type: Invalid value: field is immutable"})
    return None


def _leaves(body: Body) -> dict[Leaf, Any]:
    """Return the parts of a Secret whose fields have managers."""
    meta = body.get("metadata", {})
    maps = {"data": body.get("data"), "labels": meta.get("labels"), "annotations": meta.get("annotations")}
    leaves = {(kind, key): value for kind, values in maps.items() for key, value in (values or {}).items()}
    return leaves | {("ownerReferences", owner["uid"]): owner for owner in meta.get("ownerReferences") or ()}


def _body(leaves: dict[Leaf, Any], was: Body) -> Body:
    def all_of(part: str) -> dict[str, Any]:
        return {name: value for (kind, name), value in leaves.items() if kind == part}

    meta = was["metadata"] | {kind: all_of(kind) for kind in ("labels", "annotations")}
    meta["ownerReferences"] = list(all_of("ownerReferences").values())
    return was | {"metadata": meta, "data": all_of("data")}


def _without_owners(body: Body, patch: Body) -> Body:
    """Convert a strategic merge patch that removes owner references to a merge patch."""
    removed = {owner["uid"] for owner in patch["metadata"]["ownerReferences"] if owner.get("$patch") == "delete"}
    owners = [owner for owner in body["metadata"].get("ownerReferences", []) if owner["uid"] not in removed]
    return patch | {"metadata": patch["metadata"] | {"ownerReferences": owners}}


def _merged(body: Body, patch: Body) -> Body:
    """Apply a JSON merge patch (RFC 7396)."""
    merged = dict(body)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key) or {}, value) if isinstance(value, dict) else value
    return merged
