"""Cache of the Secrets that Keyturn manages, filled by the watch and by Keyturn's own writes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.api.token_request import Request
from keyturn.controller.secret_manifest import target_secret
from keyturn.controller.secret_watch import Meta
from keyturn.core.issuance import MANAGED_BY, TargetSecret, field_manager
from keyturn.core.issuance_keys import IssuanceKeys

Place = tuple[str, str]
_MAX_DELETED = 10_000


def target_place(request: Request) -> Place:
    """Return namespace and name of the Secret that a request writes."""
    return request.namespace, request.secret_name


class SecretCache:
    """The managed Secrets by namespace and name. A stale entry must be read before it is used.

    A written Secret stays in the cache until the watch shows a newer version. Otherwise a reconciliation that starts
    before the watch has shown our own write would renew twice.
    """

    def __init__(self, keys: IssuanceKeys) -> None:
        self._keys = keys
        self._secrets: dict[Place, TargetSecret] = {}
        self._stale: set[Place] = set()
        # In the order of deletion; the oldest are dropped first.
        self._deleted: dict[Place, None] = {}
        self._written_by: defaultdict[str, set[Place]] = defaultdict(set)
        self._writing: dict[Place, list[tuple[Meta, bool]]] = {}

    def observe(self, meta: Meta, alive: bool) -> bool:  # noqa: FBT001 - the signature of the watch
        """Handle an event of the watch; returns whether the Secret changed, so that its requests must be reconciled."""
        place = (meta.namespace, meta.name)
        if place in self._writing:
            self._writing[place].append((meta, alive))
            return False
        known = self._secrets.get(place)
        if not alive and known and known.uid != meta.uid:
            # An earlier Secret of this name, for example one that was replaced to change its type.
            return False
        if not alive:
            # Perhaps only the label was removed: the Secret is read before it counts as deleted.
            self._mark_deleted(place)
            return known is not None
        if known and int(meta.resource_version) <= int(known.resource_version):
            return False
        secret = target_secret(meta, self._keys)
        self._store(place, secret)
        if known or secret.modified_by_others or meta.is_partial:
            self._stale.add(place)
        return True

    def _mark_deleted(self, place: Place) -> None:
        self.forget(place)
        self._stale.add(place)
        self._deleted[place] = None
        if len(self._deleted) > _MAX_DELETED:
            oldest = next(iter(self._deleted))
            del self._deleted[oldest]
            self._stale.discard(oldest)

    def written_by(self, request: Request) -> TargetSecret | None:
        """Return a Secret that a request wrote, under any name."""
        return next((self._secrets[place] for place in sorted(self.former_targets(request))), None)

    def is_stale(self, request: Request) -> bool:
        """Whether the entry of the target is stale."""
        return target_place(request) in self._stale

    def get(self, place: Place) -> TargetSecret | None:
        return self._secrets.get(place)

    def former_targets(self, request: Request) -> set[Place]:
        """Return the Secrets that the request wrote. A user's copy has the issuance record, but not our manager."""
        ours = field_manager(request.uid)
        return {
            place
            for place in self._written_by.get(request.uid, ())
            if place[0] == request.namespace and ours in self._secrets[place].managers
        }

    def invalidate(self, request: Request) -> None:
        """Mark the entry of the target as stale."""
        self._stale.add(target_place(request))

    def was_deleted(self, request: Request) -> bool:
        """Whether the target was deleted and not seen since."""
        return target_place(request) in self._deleted

    def release(self, request: Request) -> None:
        """Forget that the target of a deleted request is stale, unless the target exists."""
        if target_place(request) not in self._secrets:
            self._stale.discard(target_place(request))

    def was_read(self, place: Place, secret: TargetSecret | None) -> None:
        """Store the result of a read. The watch does not show a Secret without our label, so its entry stays stale."""
        if secret is None:
            if place in self._secrets:
                self._mark_deleted(place)
            self._stale.discard(place)
            return
        self.was_written(place, secret)
        if secret.labels.get(MANAGED_BY) != "keyturn":
            self._stale.add(place)

    def was_written(self, place: Place, secret: TargetSecret) -> None:
        """Store the result of a write."""
        self._store(place, secret)
        self._stale.discard(place)

    @contextmanager
    def writing(self, place: Place) -> Iterator[None]:
        """Delay watch events of a Secret while it is written."""
        self._writing.setdefault(place, [])
        try:
            yield
        finally:
            # Another request with the same target may have ended the delay already.
            for meta, alive in self._writing.pop(place, ()):
                self.observe(meta, alive)

    def _store(self, place: Place, secret: TargetSecret) -> None:
        self.forget(place)
        self._deleted.pop(place, None)
        self._secrets[place] = secret
        if secret.issuance:
            self._written_by[secret.issuance.uid].add(place)

    def forget(self, place: Place) -> None:
        """Remove the entry of a Secret that does not exist."""
        secret = self._secrets.pop(place, None)
        if secret and secret.issuance:
            places = self._written_by[secret.issuance.uid]
            places.discard(place)
            if not places:
                del self._written_by[secret.issuance.uid]
