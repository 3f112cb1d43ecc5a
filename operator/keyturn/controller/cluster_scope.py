"""The scope of an installation that watches all namespaces."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from weakref import WeakValueDictionary

import msgspec
from msgspec import Meta

from keyturn.api.base import GROUP
from keyturn.api.token_request import PLURAL
from keyturn.controller.api_client import JSON, MERGE, ApiClient, ApiResponse, ForbiddenError
from keyturn.controller.leader_election import ATTEMPT_SECONDS, LEASES, RETRY_SECONDS, Lease, holder_of
from keyturn.controller.object_list import PageSize, list_pages
from keyturn.controller.scope import CLUSTER, HOLD_SECONDS, LABEL, LEASE_NAME, Scope, label_of
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.metrics import Metrics

CLUSTER_LEASE_NAME = "keyturn-cluster-scope"
USER = f"{GROUP}/user"
# `<namespace>/<name>` of a Lease, and the user name of a ServiceAccount.
_MAX_HOLDER, _MAX_USER = 320, 400
_log = logging.getLogger(__name__)


class _Labels(msgspec.Struct):
    scope: str = msgspec.field(default="", name=LABEL)


class _Annotations(msgspec.Struct):
    user: Annotated[str, Meta(max_length=_MAX_USER)] = msgspec.field(default="", name=USER)


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    resource_version: str
    labels: _Labels | None = None
    annotations: _Annotations | None = None


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: Annotated[str, Meta(max_length=_MAX_HOLDER)] | None = None
    acquire_time: str | None = None
    renew_time: str | None = None


class _Listed(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a namespace could not be claimed, and when that is tried again, in monotonic seconds."""

    message: str
    retry_at: float = math.inf
    pause: float = 0.0


class ClusterScope(Scope):
    """The scope of an installation that watches all namespaces."""

    def __init__(  # noqa: PLR0913 - they are independent
        self,
        api: ApiClient,
        own_namespace: str,
        identity: str,
        now: Callable[[], datetime],
        metrics: Metrics,
        *,
        hold_seconds: int = HOLD_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(metrics, hold_seconds, hold_seconds / 2)
        self._api = api
        self._monotonic = monotonic
        self._hold_seconds = hold_seconds
        self._own = _ClusterLease(
            api,
            own_namespace,
            CLUSTER_LEASE_NAME,
            identity,
            now,
            self._boundary,
            seconds=hold_seconds,
            monotonic=monotonic,
        )
        # One for each namespace: a Lease that a tenant made huge takes long to write.
        self._creating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._page_size = PageSize()
        self._seen: dict[tuple[str, str], tuple[object, float]] = {}
        self._rival = self._denied = ""
        self._usable_from: float | None = None
        self._read_at = -float(hold_seconds)
        self._listed: dict[str, dict[str, Any]] = {}
        self._holders: dict[str, str] = {}
        self._claimed: set[str] = set()
        self._refusals: dict[str, _Refusal] = {}

    def conflicts(self) -> dict[str, str]:
        """Return the other cluster-wide installation if it is active, or else the namespaced ones by namespace."""
        return {"": self._rival} if self._rival else self._holders

    def holder(self, namespace: str) -> str:
        """Return the other installation that is active in a namespace, or ""."""
        return self._rival or self._holders.get(namespace, "")

    def is_held(self, namespace: str) -> bool:
        """Whether we have claimed a namespace, and have read the Leases recently enough to write there."""
        return namespace in self._claimed and self._has_read(0)

    async def claim(self, namespace: str) -> str:
        """Return "" if a renewal may start in a namespace, or why not. Creates the Lease there if it is missing."""
        if reason := self.conflict(namespace):
            return reason
        if not self._has_read(self.margin):
            return "the Leases of other installations have not been read in time"
        if namespace in self._claimed:
            return ""
        async with self._creating.setdefault(namespace, asyncio.Lock()):
            refusal = self._refusals.get(namespace)
            if namespace not in self._claimed and (not refusal or self._monotonic() >= refusal.retry_at):
                # Kept for a while: a namespace may have many requests.
                self._refusals[namespace] = await self._create(namespace, refusal.pause if refusal else 0.0)
            return "" if namespace in self._claimed else self._refusals[namespace].message

    def leases(self) -> Sequence[Lease]:
        """Return the Lease that shows that this installation is alive."""
        return [self._own]

    def problem(self) -> str:
        """Return the message about a missing right, or ""."""
        return self._denied or self._own.denied

    async def release(self) -> None:
        """Release our Lease. Those in the namespaces remain, because they do not show that we are alive."""
        await self._own.release()

    def _has_read(self, seconds: float) -> bool:
        """Whether we are the active cluster-wide installation, and remain so for at least this many seconds."""
        now = self._monotonic()
        is_usable = self._usable_from is not None and now >= self._usable_from
        return is_usable and self._own.is_held() and now + seconds < self._read_at + self._hold_seconds

    async def _check(self) -> bool:
        try:
            await self._stand_by_or_work()
            self._denied = ""
        except (RefusedError, ForbiddenError) as error:
            self._denied = error.message
        except KeyturnError as error:
            _log.warning("the Leases of other installations could not be read: %s", error)
        else:
            return True
        return False

    async def _stand_by_or_work(self) -> None:
        if not self._own.is_held():
            self._usable_from = None
            if rivals := await self._rivals():
                self._rival = holder_of(rivals[0])
                return
        await self._read_user()
        if not await self._own.acquire_or_renew():
            self._rival = self._own.holder
            if not self._rival:
                raise UnavailableError("Unavailable", f"the Lease {CLUSTER_LEASE_NAME} could not be renewed")
            return
        # Listed after the write: if two start at the same time, at least one of them sees the other.
        read_at = self._monotonic()
        rivals = await self._rivals()
        ours = (self._own.spec.get("acquireTime", ""), self._own.identity)
        if older := [lease for lease in rivals if (lease["spec"].get("acquireTime", ""), holder_of(lease)) < ours]:
            self._rival, self._usable_from = holder_of(older[0]), None
            await self._own.release()
            return
        self._rival = ""
        if self._usable_from is None or (rivals and not self._has_read(0)):
            # A younger installation that is already active stops as soon as it has read and verified our Lease.
            self._usable_from = read_at + (ATTEMPT_SECONDS + self._hold_seconds if rivals else 0)
        await self._read_namespaces(read_at)

    async def _read_namespaces(self, read_at: float) -> None:
        # Other clients may make the list slow. Namespaces that are claimed meanwhile may be missing from it.
        claimed_before = frozenset(self._claimed)
        leases = await self._list(LEASE_NAME)
        self._listed = {lease["metadata"]["namespace"]: lease for lease in leases}
        foreign = {
            namespace: lease
            for namespace, lease in self._listed.items()
            if label_of(lease) != CLUSTER and holder_of(lease) != self._own.identity
        }
        self._holders = {namespace: holder_of(lease) for namespace, lease in foreign.items() if self._is_alive(lease)}
        listed = {namespace for namespace, lease in self._listed.items() if label_of(lease) == CLUSTER}
        self._claimed = listed | (self._claimed - claimed_before - self._holders.keys())
        self._refusals = {}
        self._read_at = read_at

    async def _rivals(self) -> list[dict[str, Any]]:
        """Return the Leases of other cluster-wide installations that are alive.

        If the API server does not say in time whether they are genuine, nothing changes: an installation that works
        continues, and one that does not work waits. Otherwise, anyone who may create a Lease in one namespace could
        stop all renewals while a webhook that authorizes users is down.
        """
        others = [lease for lease in await self._list(CLUSTER_LEASE_NAME) if holder_of(lease) != self._own.identity]
        alive, genuine = [lease for lease in others if self._is_alive(lease)], list[dict[str, Any]]()
        is_working = self._has_read(0)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS if is_working else None):
                for lease in alive:
                    genuine += [lease] if await self._is_genuine(lease) else []
        except (TimeoutError, UnavailableError) as error:
            if not is_working:
                raise
            _log.warning("Leases of other installations could not be verified: %s", str(error) or "no response in time")
        return genuine

    async def _is_genuine(self, lease: dict[str, Any]) -> bool:
        """Whether a Lease is from an installation: its ServiceAccount may write the status of all TokenRequests.

        Otherwise, anyone who may create a Lease in one namespace could stop the renewals in all namespaces.
        """
        metadata = lease["metadata"]
        user = (metadata.get("annotations") or {}).get(USER, "")
        if not user.startswith(f"system:serviceaccount:{metadata['namespace']}:"):
            return False
        attributes = {"group": GROUP, "resource": PLURAL, "subresource": "status", "verb": "patch"}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        response = await self._api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        _raise_if_refused(response, f"reviewing the access of {user}")
        return response.body["status"]["allowed"] is True

    def _is_alive(self, lease: dict[str, Any]) -> bool:
        """Whether a Lease is held, and has changed within the last HOLD_SECONDS as far as we have seen."""
        key, now = (lease["metadata"]["namespace"], lease["metadata"]["name"]), self._monotonic()
        spec = lease.get("spec")
        if self._seen.get(key, (None, 0))[0] != spec:
            self._seen[key] = (spec, now)
        return bool(holder_of(lease)) and now - self._seen[key][1] <= self._hold_seconds

    async def _list(self, name: str) -> list[dict[str, Any]]:
        """List the Leases with a name, reduced to the fields that are used.

        Anyone who may write Leases in a namespace can make one too large to read or to keep. Such a Lease is omitted:
        nothing is renewed in its namespace, and other namespaces are not affected.
        """
        leases: list[dict[str, Any]] = []
        path, fields = "/apis/coordination.k8s.io/v1/leases", f"metadata.name={name}"
        async for page in list_pages(self._api, path, LABEL, self._page_size, fields=fields, accept=JSON):
            for raw in page.items:
                try:
                    leases.append(msgspec.to_builtins(msgspec.json.decode(raw, type=_Listed)))
                except (RecursionError, msgspec.DecodeError) as error:
                    self._boundary.report(error)
        listed = {lease["metadata"]["namespace"] for lease in leases}
        self._seen = {key: seen for key, seen in self._seen.items() if key[1] != name or key[0] in listed}
        return leases

    async def _create(self, namespace: str, pause: float) -> _Refusal:
        """Create the Lease in a namespace, or acquire it if it is free.

        If the API server refuses or does not respond, a few more attempts follow before the next check, after
        increasingly long pauses. Any other problem needs that check.
        """
        spec = {"holderIdentity": self._own.identity, "acquireTime": None, "renewTime": None}
        body: dict[str, Any] = {"metadata": {"name": LEASE_NAME, "labels": {LABEL: CLUSTER}}, "spec": spec}
        path, lease = LEASES.format(namespace), f"the Lease {namespace}/{LEASE_NAME}"
        listed = self._listed.get(namespace, {}).get("metadata", {}).get("resourceVersion")
        try:
            response = await self._api.request("GET", f"{path}/{LEASE_NAME}")
            if not response.is_found:
                response = await self._api.request("POST", path, body)
            elif not response.is_error and response.body["metadata"]["resourceVersion"] != listed:
                return _refused(namespace, f"{lease} was changed after the last check, or has no label {LABEL}")
            elif not response.is_error:
                body["metadata"]["resourceVersion"] = listed
                response = await self._api.request("PATCH", f"{path}/{LEASE_NAME}", body, kind=MERGE)
            problem = f"{lease} could not be written: {response.message}" if response.is_error else ""
        except KeyturnError as error:
            problem = error.message
        if problem:
            pause = 2 * pause or RETRY_SECONDS
            return _refused(namespace, problem, self._monotonic() + pause, pause)
        self._claimed.add(namespace)
        return _Refusal("")

    async def _read_user(self) -> None:
        if not self._own.user:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            response = await self._api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
            # Without it, other installations would ignore our Lease, and two installations would renew.
            _raise_if_refused(response, "reviewing the operator's own user")
            self._own.user = ((response.body.get("status") or {}).get("userInfo") or {}).get("username", "")


class _ClusterLease(Lease):
    """The Lease of a cluster-wide installation, with the user name by which others verify it."""

    user = ""

    def metadata(self, lease: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the same in each case
        return {"labels": {LABEL: CLUSTER}, "annotations": {USER: self.user}}


def _raise_if_refused(response: ApiResponse, what: str) -> None:
    if response.is_error:
        error = RefusedError if response.status == HTTPStatus.FORBIDDEN else UnavailableError
        raise error("ScopeConflict", f"{what}: {response.message}")


def _refused(namespace: str, message: str, retry_at: float = math.inf, pause: float = 0.0) -> _Refusal:
    _log.warning("nothing is renewed in namespace %s: %s", namespace, message)
    return _Refusal(message, retry_at, pause)
