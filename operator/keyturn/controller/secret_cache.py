"""Cache of the Secrets that Keyturn manages, filled by the watch and by Keyturn's own writes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.api.base import NamespacedName
from keyturn.api.token_request import Request
from keyturn.controller.secret_manifest import target_secret
from keyturn.controller.secret_watch import SecretMeta
from keyturn.core.issuance import MANAGED_BY, IssuanceKeys, TargetSecret, field_manager

_MAX_DELETED = 10_000


def target_name(request: Request) -> NamespacedName:
    """Return namespace and name of the Secret that a request writes."""
    return request.namespace, request.secret_name


class SecretCache:
    """The managed Secrets by namespace and name. A stale entry must be read before it is used.

    A written Secret stays in the cache until the watch shows a newer version. Otherwise a reconciliation that starts
    before the watch has shown our own write would renew twice.
    """

    def __init__(self, keys: IssuanceKeys) -> None:
        self._keys = keys
        self._secrets: dict[NamespacedName, TargetSecret] = {}
        self._stale: set[NamespacedName] = set()
        # In the order of deletion; the oldest are dropped first.
        self._deleted: dict[NamespacedName, None] = {}
        self._written_by: defaultdict[str, set[NamespacedName]] = defaultdict(set)
        # The last event of each Secret that is being written. All of them could fill the memory.
        self._writing: dict[NamespacedName, tuple[SecretMeta, bool] | None] = {}

    def observe(self, meta: SecretMeta, alive: bool) -> bool:  # noqa: FBT001 - the signature of the watch
        """Handle an event of the watch; returns whether the Secret changed, so that its requests must be reconciled."""
        name = (meta.namespace, meta.name)
        if name in self._writing:
            self._writing[name] = (meta, alive)
            return False
        known = self._secrets.get(name)
        if not alive and known and known.uid != meta.uid:
            # Another Secret had this name before, for example one that was replaced to change its type.
            return False
        if not alive:
            # Only the label may have been removed: the Secret is read before it counts as deleted.
            self._mark_deleted(name)
            return known is not None
        if known and int(meta.resource_version) <= int(known.resource_version):
            return False
        secret = target_secret(meta, self._keys)
        self._store(name, secret)
        if known or secret.modified_by_others or meta.is_partial:
            self._stale.add(name)
        return True

    def _mark_deleted(self, name: NamespacedName) -> None:
        self.forget(name)
        self._stale.add(name)
        self._deleted[name] = None
        if len(self._deleted) > _MAX_DELETED:
            oldest = next(iter(self._deleted))
            del self._deleted[oldest]
            self._stale.discard(oldest)

    def written_by(self, request: Request) -> TargetSecret | None:
        """Return a Secret that a request wrote, under any name."""
        return next((self._secrets[name] for name in sorted(self.former_targets(request))), None)

    def is_stale(self, request: Request) -> bool:
        """Whether the entry of the target is stale."""
        return target_name(request) in self._stale

    def get(self, name: NamespacedName) -> TargetSecret | None:
        return self._secrets.get(name)

    def former_targets(self, request: Request) -> set[NamespacedName]:
        """Return the Secrets that the request wrote. A user's copy has the issuance record but not our manager."""
        ours = field_manager(request.uid)
        return {
            name
            for name in self._written_by.get(request.uid, ())
            if name[0] == request.namespace and ours in self._secrets[name].managers
        }

    def invalidate(self, request: Request) -> None:
        """Mark the entry of the target as stale."""
        self._stale.add(target_name(request))

    def was_deleted(self, request: Request) -> bool:
        """Whether the target was deleted and has not been seen since."""
        return target_name(request) in self._deleted

    def release(self, request: Request, *, is_watched: bool) -> None:
        """Stop tracking a target that no request has any longer, unless the watch shows when it is deleted.

        Otherwise, a tenant who creates and deletes TokenRequests with the names of its own Secrets could fill the
        memory.
        """
        name = target_name(request)
        known = self._secrets.get(name)
        if known and not (is_watched and _has_our_label(known)):
            self.forget(name)
        if name not in self._secrets:
            self._stale.discard(name)

    def was_read(self, name: NamespacedName, secret: TargetSecret | None) -> None:
        """Store the result of a read. The watch does not show a Secret without our label, so its entry stays stale."""
        if secret is None:
            if name in self._secrets:
                self._mark_deleted(name)
            self._stale.discard(name)
            return
        self.was_written(name, secret)
        if not _has_our_label(secret):
            self._stale.add(name)

    def was_written(self, name: NamespacedName, secret: TargetSecret) -> None:
        """Store the result of a write."""
        self._store(name, secret)
        self._stale.discard(name)

    @contextmanager
    def writing(self, name: NamespacedName) -> Iterator[None]:
        """Delay watch events of a Secret while it is written."""
        self._writing.setdefault(name, None)
        try:
            yield
        finally:
            # Another request with the same target may have ended the delay already.
            if event := self._writing.pop(name, None):
                self.observe(*event)

    def _store(self, name: NamespacedName, secret: TargetSecret) -> None:
        self.forget(name)
        self._deleted.pop(name, None)
        self._secrets[name] = secret
        if secret.issuance:
            self._written_by[secret.issuance.uid].add(name)

    def forget(self, name: NamespacedName) -> None:
        """Remove the entry of a Secret that does not exist."""
        secret = self._secrets.pop(name, None)
        if secret and secret.issuance:
            names = self._written_by[secret.issuance.uid]
            names.discard(name)
            if not names:
                del self._written_by[secret.issuance.uid]


def _has_our_label(secret: TargetSecret) -> bool:
    return secret.labels.get(MANAGED_BY) == "keyturn"
