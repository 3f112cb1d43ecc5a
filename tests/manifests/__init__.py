"""Good and bad TokenRequests. Python and the API server must agree about each.

The sentence is what both say of a bad one: our rule's, else the path of the field. None means a good one.
"""

from typing import Any

from tests.manifests import cognito, registries, sessions, sources
from tests.manifests.bad import BAD
from tests.manifests.good import GOOD
from tests.world import manifest

_GOOD = GOOD | sessions.GOOD | cognito.GOOD | registries.GOOD | sources.GOOD
_BAD = BAD | sessions.BAD | cognito.BAD | registries.BAD | sources.BAD
MANIFESTS: dict[str, tuple[dict[str, Any], str | None]] = {
    **{name: (manifest(**spec), None) for name, spec in _GOOD.items()},
    **{name: (manifest(**spec), says) for name, (spec, says) in _BAD.items()},
}
