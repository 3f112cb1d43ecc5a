"""The Store in memory behaves like the cluster's, so that tests can rely on it."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError
from keyturn.core.issuance import ADOPTABLE_BY, ISSUANCE_ANNOTATION, MANAGED_BY, read_issuance
from tests.support.dependencies import request
from tests.support.memory_store import Secrets
from tests.support.secret_store import DATA, SECRETS, TOKEN_REQUEST, cluster, issuance

REQUEST = request()
MOVED = request(target={"secretName": "new"})
MOVED_RETAINED = request(target={"secretName": "new", "deletionPolicy": "Retain"})
LABELLED = request(target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}})
RECREATED = request(uid="else-0002")
Facts = dict[str, Any]


class InMemory:
    """The Secrets of tests/support/memory_store.py."""

    def __init__(self) -> None:
        self.store = self._secrets = Secrets()

    def put(self, data: dict[str, str], annotations: dict[str, str], labels: dict[str, str] | None = None) -> None:
        before = self._secrets.get("acme") if "acme" in self._secrets.names() else None
        merged = (before.annotations if before else {}) | annotations
        self._secrets.put("acme", data=data, annotations=merged)
        if labels is not None:
            self._secrets.put("acme", labels=labels)

    def delete(self) -> None:
        self._secrets.delete("acme")

    def facts(self) -> Facts:
        """Describe every Secret: data, labels, annotations without the issuance record, and owners."""
        return {name: self._facts(name) for name in self._secrets.names()}

    def _facts(self, name: str) -> Facts:
        secret = self._secrets.get(name)
        return _facts(secret.data, secret.labels, secret.annotations, set(secret.owners))


class InCluster:
    """The SecretStore, with a watch by label that has no delay."""

    def __init__(self) -> None:
        self._server, self.store = cluster()
        self._path = f"{SECRETS}/acme"

    def put(self, data: dict[str, str], annotations: dict[str, str], labels: dict[str, str] | None = None) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        before = self._server.objects.get(self._path, {}).get("metadata", {}).get("labels", {})
        removed = dict.fromkeys(before) if labels is not None else {}
        metadata = {"annotations": annotations, "labels": removed | (labels or {})}
        meta = self._server.put(self._path, data=encoded, metadata=metadata)
        if MANAGED_BY in before:
            self.store.cache.observe(meta, alive=MANAGED_BY in meta.labels)

    def delete(self) -> None:
        meta = self._server.meta(self._path)
        del self._server.objects[self._path]
        if MANAGED_BY in meta.labels:
            self.store.cache.observe(meta, alive=False)

    def facts(self) -> Facts:
        paths = [path for path in self._server.objects if path != TOKEN_REQUEST]
        return {path.rpartition("/")[2]: self._facts(path) for path in paths}

    def _facts(self, path: str) -> Facts:
        meta = self._server.meta(path)
        owners = {owner.uid for owner in meta.owner_references}
        return _facts(self._server.data(path), meta.labels, meta.annotations, owners)


def _facts(data: dict[str, str], labels: dict[str, str], annotations: dict[str, str], owners: set[str]) -> Facts:
    record = read_issuance(annotations)
    others = {key: value for key, value in annotations.items() if key != ISSUANCE_ANNOTATION}
    return {
        "data": data,
        "labels": labels,
        "annotations": others,
        "owners": owners,
        "adopted": record and record.adopted,
    }


Side = InMemory | InCluster
Step = Callable[[Side], Awaitable[object]]


def write(token_request: Request = REQUEST) -> Step:
    return lambda side: side.store.write(token_request, issuance(token_request), DATA)


def apply_metadata(token_request: Request) -> Step:
    return lambda side: side.store.apply_metadata(token_request, issuance(token_request))


def dry_run(token_request: Request = REQUEST) -> Step:
    return lambda side: side.store.dry_run(token_request)


async def read(side: Side) -> object:
    target = await side.store.read_target(REQUEST)
    return target and (
        target.issuance is not None,
        target.owners,
        target.annotations.get(ADOPTABLE_BY),
        target.immutable,
    )


def put(labels: dict[str, str] | None = None, data: dict[str, str] | None = None, **annotations: str) -> Step:
    async def step(side: Side) -> None:
        side.put(
            data or {},
            {key.replace("adoptable_by", ADOPTABLE_BY): value for key, value in annotations.items()},
            labels,
        )

    return step


async def delete(side: Side) -> None:
    side.delete()


FOREIGN = put(data={"theirs": "x"})
ADOPTABLE = put(adoptable_by="acme")


async def run_steps(side: Side, steps: list[Step]) -> list[object]:
    """Return the result or error of each step, and the Secrets at the end."""
    results: list[object] = []
    for step in steps:
        try:
            results.append(await step(side))
        except KeyturnError as error:
            results.append((error.reason, error.message))
    return [*results, side.facts()]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([read, dry_run(), write(), read], id="a first issue"),
        pytest.param([write(), write(), read], id="a renewal"),
        pytest.param([write(), delete, read, dry_run(), write(), read], id="deleted by hand"),
        pytest.param([write(), put(data={"theirs": "x"}), read, write()], id="a foreign key in our Secret"),
        pytest.param([write(), put(data={"token": "x"}), apply_metadata(LABELLED), read, write()], id="a key edited"),
        pytest.param([write(), put(labels={}), read, write()], id="its labels removed"),
        pytest.param([write(), write(LABELLED), write()], id="labels that come and go"),
        pytest.param([write(), apply_metadata(LABELLED)], id="metadata applied"),
        pytest.param([write(), write(RECREATED)], id="recreated request"),
        pytest.param([write(), write(MOVED)], id="moved"),
        pytest.param([write(), write(MOVED_RETAINED)], id="moved and retained"),
        pytest.param([FOREIGN, read, dry_run(), read], id="a foreign Secret"),
        pytest.param([FOREIGN, dry_run(), ADOPTABLE, read, write(), read], id="adopted after a refusal"),
        pytest.param([FOREIGN, dry_run(), delete, read, dry_run()], id="a foreign Secret, deleted"),
        pytest.param([FOREIGN, ADOPTABLE, dry_run(), write(), write(MOVED)], id="adopted and moved"),
        pytest.param([FOREIGN, ADOPTABLE, dry_run(), write(), put(adoptable_by=""), write()], id="no longer adoptable"),
    ],
)
async def test_both_stores_behave_alike(steps: list[Step]) -> None:
    assert await run_steps(InMemory(), steps) == await run_steps(InCluster(), steps)
