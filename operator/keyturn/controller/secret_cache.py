"""What is known of our Secrets: what the watch showed, or what we wrote since."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from keyturn.api.token_request import Request
from keyturn.controller.secret_manifest import target_secret
from keyturn.controller.secret_watch import Meta
from keyturn.core.issuance import MANAGED_BY, TargetSecret, field_manager

Place = tuple[str, str]
_REMEMBERED = 10_000


def target_place(request: Request) -> Place:
    """Namespace and name of the Secret that a request writes."""
    return request.namespace, request.secret_name


class SecretCache:
    """Our Secrets by namespace and name, and which of them must be read before they are believed.

    What we wrote is what we know until the watch shows a newer version: a look that starts from a watch which
    has not yet seen our own write would renew twice.
    """

    def __init__(self) -> None:
        self._found: dict[Place, TargetSecret] = {}
        self._stale: set[Place] = set()
        # In the order of their end, for the oldest go.
        self._deleted: dict[Place, None] = {}
        self._written_by: defaultdict[str, set[Place]] = defaultdict(set)
        self._writing: dict[Place, list[tuple[Meta, bool]]] = {}

    def observe(self, meta: Meta, alive: bool) -> bool:  # noqa: FBT001 - the watch's own shape
        """Take in what the watch shows; returns whether that is news that a look must see to."""
        place = (meta.namespace, meta.name)
        if place in self._writing:
            self._writing[place].append((meta, alive))
            return False
        known = self._found.get(place)
        if not alive and known and known.uid != meta.uid:
            # The end of one whose place was taken, by us where the type had to change.
            return False
        if not alive:
            # The label may have gone and not the Secret: it is read before that is believed.
            self._lose(place)
            return known is not None
        if known and int(meta.resource_version) <= int(known.resource_version):
            return False
        found = target_secret(meta)
        self._take(place, found)
        if known or found.modified_by_others:
            self._stale.add(place)
        return True

    def _lose(self, place: Place) -> None:
        self.forget(place)
        self._stale.add(place)
        self._deleted[place] = None
        if len(self._deleted) > _REMEMBERED:
            oldest = next(iter(self._deleted))
            del self._deleted[oldest]
            self._stale.discard(oldest)

    def written_by(self, request: Request) -> TargetSecret | None:
        """Find a Secret that a request wrote, under whatever name."""
        return next((self._found[place] for place in sorted(self.former_targets(request))), None)

    def is_stale(self, request: Request) -> bool:
        """Whether the target must be read again before it is believed."""
        return target_place(request) in self._stale

    def get(self, place: Place) -> TargetSecret | None:
        """Find a Secret."""
        return self._found.get(place)

    def former_targets(self, request: Request) -> set[Place]:
        """Where else the request wrote. A copy that somebody made has our marks, but not our field manager."""
        ours = field_manager(request.uid)
        return {
            place
            for place in self._written_by.get(request.uid, ())
            if place[0] == request.namespace and ours in self._found[place].managers
        }

    def invalidate(self, request: Request) -> None:
        """Have the target read before it is believed."""
        self._stale.add(target_place(request))

    def was_deleted(self, request: Request) -> bool:
        """Whether the end of the target was seen, and nothing after it."""
        return target_place(request) in self._deleted

    def release(self, request: Request) -> None:
        """Drop the doubt about a target that is gone with its request. A look in hand still learns of its end."""
        if target_place(request) not in self._found:
            self._stale.discard(target_place(request))

    def was_read(self, place: Place, found: TargetSecret | None) -> None:
        """Take in what a read showed. No watch shows a Secret without our label: that one is doubted each time."""
        if found is None:
            if place in self._found:
                self._lose(place)
            self._stale.discard(place)
            return
        self.was_written(place, found)
        if found.labels.get(MANAGED_BY) != "keyturn":
            self._stale.add(place)

    def was_written(self, place: Place, found: TargetSecret) -> None:
        """Take in what the API server answered: there is no doubt about it."""
        self._take(place, found)
        self._stale.discard(place)

    @contextmanager
    def writing(self, place: Place) -> Iterator[None]:
        """Let what the watch shows of a Secret wait while we write it."""
        self._writing.setdefault(place, [])
        try:
            yield
        finally:
            # Another request that wants the same Secret may have ended this already.
            for meta, alive in self._writing.pop(place, ()):
                self.observe(meta, alive)

    def _take(self, place: Place, found: TargetSecret) -> None:
        self.forget(place)
        self._deleted.pop(place, None)
        self._found[place] = found
        if found.issuance:
            self._written_by[found.issuance.uid].add(place)

    def forget(self, place: Place) -> None:
        """Take in that there is no such Secret."""
        found = self._found.pop(place, None)
        if found and found.issuance:
            places = self._written_by[found.issuance.uid]
            places.discard(place)
            if not places:
                del self._written_by[found.issuance.uid]
