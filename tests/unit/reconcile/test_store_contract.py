"""The Store in memory does what the cluster's does, so that what is tried on it is true."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError
from keyturn.core.issuance import ADOPTABLE_BY, ISSUANCE_ANNOTATION, MANAGED_BY, read_issuance
from tests.support.dependencies import request
from tests.support.memory_store import Secrets
from tests.unit.controller.test_secret_store import DATA, SECRETS, TOKEN_REQUEST, cluster, issuance

REQUEST = request()
MOVED = request(target={"secretName": "new"})
MOVED_RETAINED = request(target={"secretName": "new", "deletionPolicy": "Retain"})
LABELLED = request(target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}})
AGAIN = request(uid="else-0002")
Facts = dict[str, Any]


class InMemory:
    """The Secrets of tests/support/memory_store.py."""

    def __init__(self) -> None:
        self.store = self._secrets = Secrets()

    def put(self, data: dict[str, str], annotations: dict[str, str], labels: dict[str, str] | None = None) -> None:
        was = self._secrets.get("acme") if "acme" in self._secrets.names() else None
        merged = (was.annotations if was else {}) | annotations
        self._secrets.put("acme", data=data, annotations=merged)
        if labels is not None:
            self._secrets.put("acme", labels=labels)

    def delete(self) -> None:
        self._secrets.delete("acme")

    def facts(self) -> Facts:
        """Every Secret with its data, labels, annotations but for the marks, and owners."""
        return {name: self._facts(name) for name in self._secrets.names()}

    def _facts(self, name: str) -> Facts:
        one = self._secrets.get(name)
        return _facts(one.data, one.labels, one.annotations, set(one.owners))


class InCluster:
    """The SecretStore, with a watch that shows it everything that has our label at once."""

    def __init__(self) -> None:
        self._server, self.store = cluster()
        self._path = f"{SECRETS}/acme"

    def put(self, data: dict[str, str], annotations: dict[str, str], labels: dict[str, str] | None = None) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        was = self._server.objects.get(self._path, {}).get("metadata", {}).get("labels", {})
        gone = dict.fromkeys(was) if labels is not None else {}
        metadata = {"annotations": annotations, "labels": gone | (labels or {})}
        meta = self._server.put(self._path, data=encoded, metadata=metadata)
        if MANAGED_BY in was:
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
    made = read_issuance(annotations)
    told = {key: value for key, value in annotations.items() if key != ISSUANCE_ANNOTATION}
    return {"data": data, "labels": labels, "told": told, "owners": owners, "adopted": made and made.adopted}


Side = InMemory | InCluster
Step = Callable[[Side], Awaitable[object]]


def write(wanted: Request = REQUEST) -> Step:
    return lambda side: side.store.write(wanted, issuance(wanted), DATA)


def apply_metadata(wanted: Request) -> Step:
    return lambda side: side.store.apply_metadata(wanted, issuance(wanted))


def dry_run(wanted: Request = REQUEST) -> Step:
    return lambda side: side.store.dry_run(wanted)


async def read(side: Side) -> object:
    found = await side.store.read_target(REQUEST)
    return found and (
        found.issuance is not None,
        found.owners,
        found.annotations.get(ADOPTABLE_BY),
        found.immutable,
    )


def put(labels: dict[str, str] | None = None, data: dict[str, str] | None = None, **annotations: str) -> Step:
    async def step(side: Side) -> None:
        side.put(
            data or {},
            {key.replace("adopt_by", ADOPTABLE_BY): value for key, value in annotations.items()},
            labels,
        )

    return step


async def delete(side: Side) -> None:
    side.delete()


THEIRS = put(data={"theirs": "x"})
CONSENT = put(adopt_by="acme")


async def story(side: Side, steps: list[Step]) -> list[object]:
    """What each step gave or raised, and what is there in the end."""
    told: list[object] = []
    for step in steps:
        try:
            told.append(await step(side))
        except KeyturnError as error:
            told.append((error.reason, error.message))
    return [*told, side.facts()]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([read, dry_run(), write(), read], id="a first issue"),
        pytest.param([write(), write(), read], id="a renewal"),
        pytest.param([write(), delete, read, dry_run(), write(), read], id="deleted by hand"),
        pytest.param([write(), put(data={"theirs": "x"}), read, write()], id="a key of theirs beside ours"),
        pytest.param([write(), put(data={"token": "x"}), apply_metadata(LABELLED), read, write()], id="a key edited"),
        pytest.param([write(), put(labels={}), read, write()], id="its labels removed"),
        pytest.param([write(), write(LABELLED), write()], id="labels that come and go"),
        pytest.param([write(), apply_metadata(LABELLED)], id="dressed"),
        pytest.param([write(), write(AGAIN)], id="taken over"),
        pytest.param([write(), write(MOVED)], id="moved"),
        pytest.param([write(), write(MOVED_RETAINED)], id="moved and retained"),
        pytest.param([THEIRS, read, dry_run(), read], id="somebody else's"),
        pytest.param([THEIRS, dry_run(), CONSENT, read, write(), read], id="adopted after a refusal"),
        pytest.param([THEIRS, dry_run(), delete, read, dry_run()], id="somebody else's, deleted"),
        pytest.param([THEIRS, CONSENT, dry_run(), write(), write(MOVED)], id="adopted and moved"),
        pytest.param([THEIRS, CONSENT, dry_run(), write(), put(adopt_by=""), write()], id="consent taken back"),
    ],
)
async def test_both_stores_tell_the_same_story(steps: list[Step]) -> None:
    assert await story(InMemory(), steps) == await story(InCluster(), steps)
